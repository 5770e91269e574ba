"""Bugs planted in who gets a seat of a group, who waits, who leaves, and what is answered."""

from __future__ import annotations

from services.groups.domain import closing, command, decide, evolve, on_order_event, transitions
from services.groups.domain.model import State
from tests.simulation.mutants.planting import Mutant, getter, mutant

_SEATS_LEFT = getter(State, "seats_left")

SEATS: tuple[Mutant, ...] = (
    mutant(
        "capacity_off_by_one",
        "one seat more than there is",
        (_SEATS_LEFT, "self.terms.capacity", "self.terms.capacity + 1"),
    ),
    mutant(
        "last_seat_raced", "a seat counts as taken only once it is paid", (_SEATS_LEFT, "- len(self.reserved) ", "")
    ),
    mutant(
        "seats_never_sold_again",
        "seats of those who left stay taken",
        (_SEATS_LEFT, "- len(self.confirmed)", "- len(self.confirmed) - len(self.ended)"),
    ),
    mutant(
        "seats_per_customer_off_by_one",
        "a customer gets one seat too many",
        (on_order_event._joining, ">= terms.seats_per_customer", "> terms.seats_per_customer"),
    ),
    mutant(
        "quantity_zero",
        "orders of nothing are accepted",
        (on_order_event._against, "1 <= placed.quantity", "0 <= placed.quantity"),
    ),
    mutant(
        "quantity_off_by_one",
        "one piece more than allowed",
        (on_order_event._against, "<= terms.max_quantity", "<= terms.max_quantity + 1"),
    ),
    mutant(
        "currency_ignored",
        "any currency will do",
        (on_order_event._against, "placed.currency != terms.currency", "not placed.currency"),
    ),
    mutant(
        "price_bound_off_by_one",
        "a shopper pays one unit more than agreed",
        (on_order_event._against, "terms.entry_price_minor:", "terms.entry_price_minor - 1:"),
    ),
    mutant(
        "price_bound_ignored",
        "nobody asks what the shopper agreed to",
        (
            on_order_event._against,
            "placed.max_unit_price_minor < terms.entry_price_minor",
            "placed.max_unit_price_minor < 0",
        ),
    ),
    mutant(
        "link_to_another_campaign",
        "a join is not compared with the group's campaign",
        (on_order_event._joining, "placed.campaign != terms.campaign", "not placed.campaign"),
    ),
    mutant(
        "dedupe_skipped",
        "a repeated order is decided again",
        (transitions.find, "row is None and standing is _UNKNOWN", "row is None"),
    ),
    mutant(
        "overtaking_cancel_forgotten",
        "an order cancelled before it came is revived",
        (
            evolve._seat_refused,
            "_end(state, event.order, OrderStatus.CANCELLED if cancelled else OrderStatus.REFUSED)",
            "if not cancelled:\n        _end(state, event.order, OrderStatus.REFUSED)",
        ),
    ),
    mutant(
        "refusal_forgotten",
        "a refused order that comes again may get a seat",
        (
            evolve._seat_refused,
            "_end(state, event.order, OrderStatus.CANCELLED if cancelled else OrderStatus.REFUSED)",
            "if cancelled:\n        _end(state, event.order, OrderStatus.CANCELLED)",
        ),
    ),
    mutant(
        "cancel_refused_twice",
        "a late cancel is answered each time",
        (on_order_event.refuse_cancel, "if not said:", "if True:"),
    ),
    mutant(
        "waitlist_beyond_capacity",
        "one who waits too many is seated",
        (decide._fill_seats, "state.seats_left <= 0", "state.seats_left < 0"),
    ),
    mutant(
        "waitlist_forgotten",
        "a seat falls free and nobody moves up",
        (decide._in_turn, "if state.waiting and items:", "if False:"),
    ),
    mutant(
        "waitlist_last_first",
        "the last who waits is seated first",
        (closing.promote, "iter(state.waiting.items())", "reversed(state.waiting.items())"),
    ),
    mutant(
        "waitlist_overtaken",
        "newcomers get seats that others wait for",
        (on_order_event.join, " and not state.waiting", ""),
        (decide._in_turn, "if state.waiting and items:", "if False:"),
    ),
    mutant(
        "reservation_lapses_early",
        "a seat lapses one millisecond too early",
        (decide._next_ms, "return seat.until_ms if", "return seat.until_ms - 1 if"),
    ),
    mutant(
        "reservation_never_lapses",
        "an unpaid seat is kept to the deadline",
        (decide._next_ms, "return seat.until_ms if seat.until_ms < deadline_ms else deadline_ms", "return deadline_ms"),
    ),
    mutant(
        "seat_gone_money_kept", "who leaves is not given the money back", (closing.leave, "if give_back:", "if False:")
    ),
    mutant(
        "member_who_left_counts",
        "members who left are still in the set",
        (evolve._seat_released, "state.confirmed.pop(order, None)", "state.confirmed.get(order)"),
    ),
    mutant(
        "customer_never_leaves",
        "who left may not come again",
        (evolve._seat_released, "elif seat is not None:", "elif False:"),
    ),
    mutant(
        "payment_facts_dropped",
        "the group never hears that money is back",
        (command._payment_decision, "if kind in MONEY:", 'if kind in MONEY and kind != "payment_released":'),
    ),
    mutant(
        "decline_unheard",
        "a declined hold is not told to the group",
        (command._payment_decision, "if kind in MONEY:", 'if kind in MONEY and kind != "capture_declined":'),
    ),
)
