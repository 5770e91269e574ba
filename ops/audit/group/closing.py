"""Checks that a group closed by its frozen terms: at the right time, with enough members, at the right price.

Pure functions; each yields the violations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from groupbuy.groups.v1.decisions_pb2 import GroupCompleted, GroupExpired

from ops.audit.findings import Invariant
from ops.audit.group.terms import FrozenTerms

Problem = tuple[Invariant, str]


def completion_problems(
    terms: FrozenTerms, event: GroupCompleted, confirmed: Sequence[str], at_ms: int, deadline_ms: int
) -> Iterator[Problem]:
    """Violations of a completion at `at_ms`. `confirmed` are the confirmed orders in the order of confirmation."""
    orders = list(event.orders)
    if orders != list(confirmed):
        missing = [order for order in confirmed if order not in orders]
        extra = [order for order in orders if order not in confirmed]
        yield (
            Invariant.ONE_END_OF_GROUP,
            "completed with other orders than the confirmed ones"
            f" (missing {missing}, not confirmed {extra}, {len(orders)} in the event)",
        )
    full = len(orders) >= terms.capacity and not terms.at_deadline
    if not full and at_ms < deadline_ms:
        yield Invariant.ENDS_IN_TIME, f"completed {deadline_ms - at_ms} ms before its deadline, not full"
    if event.house_filled and at_ms < deadline_ms:
        yield Invariant.ENDS_IN_TIME, "completed virtually before its deadline"
    yield from _price_problems(terms, event, len(orders))


def _price_problems(terms: FrozenTerms, event: GroupCompleted, members: int) -> Iterator[Problem]:
    if terms.solo:
        wanted = (1, terms.solo_price_minor)
    else:
        reached = [tier for tier in terms.tiers if tier.members <= members]
        if not reached and not (0 < terms.house_fill_members <= members):
            yield Invariant.ONE_END_OF_GROUP, f"completed with {members} members, too few for any tier"
            return
        if event.house_filled == bool(reached):
            yield Invariant.RIGHT_AMOUNT, f"house_filled is {event.house_filled} with {members} members"
        tier = reached[-1] if reached else terms.tiers[0]
        wanted = (tier.members, tier.unit_price_minor)
    if (event.tier_members, event.unit_price_minor) != wanted:
        yield (
            Invariant.RIGHT_AMOUNT,
            f"{members} members pay tier {event.tier_members} → {event.unit_price_minor}, "
            f"should be {wanted[0]} → {wanted[1]}",
        )


def expiry_problems(
    terms: FrozenTerms | None, event: GroupExpired, members: int, at_ms: int, deadline_ms: int
) -> Iterator[Problem]:
    """Violations of an expiry at `at_ms` with `members` confirmed members."""
    if event.members != members:
        yield Invariant.ONE_END_OF_GROUP, f"expired with {event.members} members, {members} are confirmed"
    if terms is None:
        return
    if terms.solo:
        if members:
            yield Invariant.ONE_END_OF_GROUP, "a solo purchase expired though it is paid"
        return
    enough = min(terms.house_fill_members or terms.tiers[0].members, terms.tiers[0].members)
    if members >= enough:
        yield Invariant.ONE_END_OF_GROUP, f"expired with {members} members, enough to complete"
    if at_ms < deadline_ms:
        yield Invariant.ENDS_IN_TIME, f"expired {deadline_ms - at_ms} ms before its deadline"
