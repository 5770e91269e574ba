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


def kept_price_cost(terms: Terms, unit_price_minor: int, charged: int, pieces: int) -> int:
    """The loss of the merchant because captures failed after the completion and the price stayed, in minor units.

    It is the difference to the price of the tier that the charged members reach, or of the first tier if they reach
    none, for the pieces that they bought.
    """
    if terms.solo or not charged:
        return 0
    tier = tier_at(terms, charged) or terms.tiers[0]
    return max(tier.unit_price_minor - unit_price_minor, 0) * pieces
