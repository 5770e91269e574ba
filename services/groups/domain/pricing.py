"""The amounts of holds and captures, in whole minor units: no rounding, no division, no floats."""

from __future__ import annotations

from services.groups.domain.terms import Terms, Tier


def hold_amount(terms: Terms, quantity: int) -> int:
    """The amount to hold: the highest possible price of the order, in minor units."""
    return terms.entry_price_minor * quantity


def tier_at(terms: Terms, members: int) -> Tier | None:
    """The highest tier that `members` confirmed members reach, or None. A solo purchase has a tier of its own."""
    if terms.solo:
        return Tier(1, terms.entry_price_minor) if members else None
    reached = None
    for tier in terms.tiers:
        if tier.members > members:
            break
        reached = tier
    return reached


def capture_amount(terms: Terms, unit_price_minor: int, quantity: int, is_leader: bool) -> int:
    """The amount to capture at completion, in minor units."""
    discount = terms.leader_discount_minor if is_leader else 0
    return (unit_price_minor - discount) * quantity
