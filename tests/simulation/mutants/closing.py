"""Planted bugs in the closing of a group: tiers, deadlines, prices, charges and releases."""

from __future__ import annotations

from services.groups.domain import closing, decide, domain, evolve, on_payment_event, pricing
from tests.simulation.mutants.planting import Mutant, mutant

CLOSING: tuple[Mutant, ...] = (
    mutant(
        "tier_off_by_one_up",
        "a tier is reached one member too late",
        (pricing.tier_at, "tier.members > members", "tier.members >= members"),
    ),
    mutant(
        "tier_off_by_one_down",
        "a tier is reached one member too early",
        (pricing.tier_at, "tier.members > members", "tier.members > members + 1"),
    ),
    mutant(
        "count_equals_need",
        "only the exact number of members reaches a tier",
        (
            pricing.tier_at,
            "if tier.members > members:\n            break\n        reached = tier",
            "if tier.members == members:\n            reached = tier",
        ),
    ),
    mutant(
        "decided_before_the_event",
        "completion looks at the members before this one",
        (on_payment_event.confirm, "    members = len(state.confirmed)\n", "    members = len(state.confirmed) - 1\n"),
    ),
    mutant(
        "count_not_set",
        "the count of members does not fall when one leaves",
        (
            evolve._member_confirmed,
            "state.confirmed[order] = seat",
            "state.confirmed[order] = seat\n    state.members += 1",
        ),
        (closing.reach_deadline, "members = len(state.confirmed)", "members = state.members"),
    ),
    mutant(
        "reserved_counted_as_members",
        "unpaid seats complete a group at its deadline",
        (
            closing.reach_deadline,
            "members = len(state.confirmed)",
            "members = len(state.confirmed) + len(state.reserved)",
        ),
    ),
    mutant(
        "reserved_are_charged",
        "unpaid seats are settled",
        (closing.complete, "in state.confirmed.items():", "in (*state.confirmed.items(), *state.reserved.items()):"),
    ),
    mutant(
        "deadline_equal",
        "the group is still open in the millisecond of the deadline",
        (decide._decide_in_order, "due_ms <= at_ms", "due_ms < at_ms"),
    ),
    mutant(
        "deadline_restarted",
        "a new leader restarts the window",
        (
            evolve._leader_changed,
            "state.leader = event.order",
            "state.leader = event.order\n    state.deadline_ms = at_ms + state.frozen.window_ms",
        ),
    ),
    mutant(
        "completion_not_final",
        "a completed group goes on forming, and expires",
        (evolve._close, "state.phase = phase", "state.phase = Phase.FORMING if phase is Phase.COMPLETED else phase"),
    ),
    mutant(
        "closes_though_at_deadline",
        "a full group closes at once, whatever its policy",
        (on_payment_event.confirm, " and terms.closes_when_full", ""),
    ),
    mutant(
        "never_full",
        "a full group waits for its deadline",
        (on_payment_event.confirm, "members == terms.capacity", "members > terms.capacity"),
    ),
    mutant(
        "incomplete_completes",
        "too few members complete a group",
        (closing.reach_deadline, "elif 0 < terms.house_fill_members <= members:", "elif members:"),
    ),
    mutant(
        "house_fill_off_by_one",
        "virtual completion takes one member more than its terms say",
        (closing.reach_deadline, "terms.house_fill_members <= members", "terms.house_fill_members < members"),
    ),
    mutant(
        "house_fill_without_terms",
        "virtual completion applies without being in the terms",
        (closing.reach_deadline, "0 < terms.house_fill_members", "0 <= terms.house_fill_members"),
    ),
    mutant(
        "captured_at_wrong_tier",
        "every member is charged the first tier's price",
        (closing.complete, "tier.unit_price_minor, seat", "terms.entry_price_minor, seat"),
    ),
    mutant(
        "leader_discount_to_all",
        "every member gets the leader's discount",
        (closing.complete, "order == leader)", "True)"),
    ),
    mutant("leader_discount_missing", "the leader gets no discount", (closing.complete, "order == leader)", "False)")),
    mutant(
        "discount_once_an_order",
        "the discount is for the order, not for each piece",
        (pricing.capture_amount, "(unit_price_minor - discount) * quantity", "unit_price_minor * quantity - discount"),
    ),
    mutant(
        "amounts_as_floats",
        "prices are calculated in fractions of whole units",
        (
            pricing.capture_amount,
            "(unit_price_minor - discount) * quantity",
            "int((unit_price_minor - discount) / 100 * quantity * 100)",
        ),
    ),
    mutant(
        "held_at_lowest_tier",
        "only the last tier's price is held",
        (
            pricing.hold_amount,
            "terms.entry_price_minor",
            "min([terms.entry_price_minor, *(one.unit_price_minor for one in terms.tiers)])",
        ),
    ),
    mutant(
        "refunds_to_the_leader",
        "all releases name the leader's order",
        (
            closing._release_all,
            "events.release_requested(order, reason)",
            "events.release_requested(state.leader or order, reason)",
        ),
    ),
    mutant(
        "members_kept_at_expiry",
        "an expired group releases unpaid orders only",
        (closing._release_all, "else tuple(state.confirmed)", "else ()"),
    ),
    mutant(
        "waitlist_kept_at_closing",
        "the waitlist is not released when the group closes",
        (closing._release_all, "for order in tuple(state.waitlist):", "for order in ():"),
    ),
    mutant(
        "faulted_group_keeps_money",
        "a group whose rules failed releases no order",
        (closing.fault_forming, "yield from _release_all(state, RELEASE_REASON_FAULTED)", "return"),
    ),
    mutant(
        "settled_too_early",
        "settled while one capture is pending",
        (on_payment_event._settle_group, "not state.confirmed", "len(state.confirmed) <= 1"),
    ),
    mutant(
        "no_timer_but_for_one",
        "the timer runs only while exactly one member is confirmed",
        (
            domain.GroupDomain.due,
            "RULES[terms.rules_version].due(state)",
            "(RULES[terms.rules_version].due(state) if len(state.confirmed) == 1 else None)",
        ),
    ),
)
