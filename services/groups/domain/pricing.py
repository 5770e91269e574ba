"""What an order is held for and what it is charged. Whole minor units only; must never round, divide or use a float."""

from __future__ import annotations

from services.groups.domain.terms import Terms, Tier


def hold_amount(terms: Terms, quantity: int) -> int:
    """The most that an order can come to, in minor units."""
    return terms.entry_price_minor * quantity


def tier_at(terms: Terms, members: int) -> Tier | None:
    """The last tier that so many confirmed members reach; None: not even the first. A solo purchase has its own."""
    if terms.solo:
        return Tier(1, terms.entry_price_minor) if members else None
    reached = None
    for tier in terms.tiers:
        if tier.members > members:
            break
        reached = tier
    return reached


def capture_amount(terms: Terms, unit_price_minor: int, quantity: int, leads: bool) -> int:
    """What an order is charged at completion, in minor units."""
    discount = terms.leader_discount_minor if leads else 0
    return (unit_price_minor - discount) * quantity
