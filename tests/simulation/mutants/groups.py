"""Planted bugs in the rules for seats, the waitlist, cancels and refusals."""

from __future__ import annotations

from services.groups.domain import closing, command, decide, evolve, on_order_event, transitions
from services.groups.domain.model import State
from tests.simulation.mutants.planting import Mutant, getter, mutant

_SEATS_LEFT = getter(State, "seats_left")

SEATS: tuple[Mutant, ...] = (
    mutant(
        "capacity_off_by_one",
        "a group has one seat too many",
        (_SEATS_LEFT, "self.terms.capacity", "self.terms.capacity + 1"),
    ),
    mutant(
        "last_seat_raced",
        "a seat is taken only once its hold is authorised",
        (_SEATS_LEFT, "- len(self.reserved) ", ""),
    ),
    mutant(
        "seats_never_sold_again",
        "released seats stay taken",
        (_SEATS_LEFT, "- len(self.confirmed)", "- len(self.confirmed) - len(self.ended)"),
    ),
    mutant(
        "seats_per_customer_off_by_one",
        "a customer gets one seat too many",
        (on_order_event.check_join, ">= terms.seats_per_customer", "> terms.seats_per_customer"),
    ),
    mutant(
        "quantity_zero",
        "orders of no piece are accepted",
        (on_order_event._check_terms, "1 <= placed.quantity", "0 <= placed.quantity"),
    ),
    mutant(
        "quantity_off_by_one",
        "one piece more than allowed",
        (on_order_event._check_terms, "<= terms.max_quantity", "<= terms.max_quantity + 1"),
    ),
    mutant(
        "currency_ignored",
        "the currency is not compared",
        (on_order_event._check_terms, "placed.currency != terms.currency", "not placed.currency"),
    ),
    mutant(
        "price_bound_off_by_one",
        "a shopper pays one unit more than agreed",
        (on_order_event._check_terms, "terms.entry_price_minor:", "terms.entry_price_minor - 1:"),
    ),
    mutant(
        "price_bound_ignored",
        "the price limit is not compared",
        (
            on_order_event._check_terms,
            "placed.max_unit_price_minor < terms.entry_price_minor",
            "placed.max_unit_price_minor < 0",
        ),
    ),
    mutant(
        "link_to_another_campaign",
        "a join is not compared with the group's campaign",
        (on_order_event.check_join, "placed.campaign != terms.campaign", "not placed.campaign"),
    ),
    mutant(
        "dedupe_skipped",
        "a duplicate order is decided again",
        (transitions.find, "row is None and status is _UNKNOWN", "row is None"),
    ),
    mutant(
        "overtaking_cancel_forgotten",
        "an order whose cancel arrived first gets a seat",
        (
            evolve._seat_refused,
            "_end(state, event.order, OrderStatus.CANCELLED if cancelled else OrderStatus.REFUSED)",
            "if not cancelled:\n        _end(state, event.order, OrderStatus.REFUSED)",
        ),
    ),
    mutant(
        "refusal_forgotten",
        "a refused order that is placed again can get a seat",
        (
            evolve._seat_refused,
            "_end(state, event.order, OrderStatus.CANCELLED if cancelled else OrderStatus.REFUSED)",
            "if cancelled:\n        _end(state, event.order, OrderStatus.CANCELLED)",
        ),
    ),
    mutant(
        "cancel_refused_twice",
        "a late cancel is refused more than once",
        (on_order_event.refuse_cancel, "if not refused:", "if True:"),
    ),
    mutant(
        "waitlist_beyond_capacity",
        "one order of the waitlist too many is seated",
        (decide._seat_waitlist, "state.seats_left <= 0", "state.seats_left < 0"),
    ),
    mutant(
        "waitlist_forgotten",
        "a free seat is not offered to the waitlist",
        (decide._decide_in_order, "if state.waitlist and items:", "if False:"),
    ),
    mutant(
        "waitlist_last_first",
        "the last of the waitlist is seated first",
        (closing.promote, "iter(state.waitlist.items())", "reversed(state.waitlist.items())"),
    ),
    mutant(
        "waitlist_overtaken",
        "new orders get seats before the waitlist",
        (on_order_event.join, " and not state.waitlist", ""),
        (decide._decide_in_order, "if state.waitlist and items:", "if False:"),
    ),
    mutant(
        "reservation_lapses_early",
        "a seat lapses one millisecond too early",
        (decide.next_ms, "return seat.until_ms if", "return seat.until_ms - 1 if"),
    ),
    mutant(
        "reservation_never_lapses",
        "a reserved seat is kept to the deadline",
        (decide.next_ms, "return seat.until_ms if seat.until_ms < deadline_ms else deadline_ms", "return deadline_ms"),
    ),
    mutant(
        "seat_gone_money_kept",
        "the funds of a released order are not returned",
        (closing.release_seat, "if return_funds:", "if False:"),
    ),
    mutant(
        "member_who_left_counts",
        "released members stay in the set",
        (evolve._seat_released, "state.confirmed.pop(order, None)", "state.confirmed.get(order)"),
    ),
    mutant(
        "customer_never_leaves",
        "a customer who left may not join again",
        (evolve._seat_released, "elif seat is not None:", "elif False:"),
    ),
    mutant(
        "payment_facts_dropped",
        "the group is not notified of a release",
        (command._payment_decision, "if kind in MONEY:", 'if kind in MONEY and kind != "payment_released":'),
    ),
    mutant(
        "decline_not_reported",
        "the group is not notified of a declined capture",
        (command._payment_decision, "if kind in MONEY:", 'if kind in MONEY and kind != "capture_declined":'),
    ),
)
