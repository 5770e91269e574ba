"""Given facts and decisions, an order shows its state, the reason, and its money."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.orders.v1.orders_pb2 import Order, OrderState
from groupbuy.payments.v1 import decisions_pb2 as p

from services.orders.api.mapping import order_message
from services.orders.domain.fold import HistoryBroken, OrdersFold
from services.orders.domain.ids import OrderName
from services.orders.domain.model import GroupOrders
from tests.scenarios import group_events as ge
from tests.scenarios import orders as h
from tests.scenarios import payment_events as pe
from tests.scenarios.facts import GROUP, digest_of
from tests.scenarios.orders import History


def folded(*records: h.Record) -> GroupOrders:
    state = OrdersFold().initial(GROUP)
    for record in records:
        record.fold(state)
    return state


def fold_history(history: History) -> GroupOrders:
    return folded(*history.facts, *history.decisions, *history.payments)


def shown(state: GroupOrders, order: str) -> Order:
    view = state.find(order)
    assert view is not None
    return order_message(OrderName(GROUP, order), state, view)


def state_and_reason(order: Order) -> tuple[str, str]:
    return OrderState.Name(order.state).removeprefix("ORDER_STATE_"), order.reason


def money(order: Order) -> tuple[int, int, int]:
    return order.held_minor, order.captured_minor, order.refunded_minor


def test_an_order_in_the_log_is_placed() -> None:
    order = shown(folded(h.placed("a", 1234, opens=True)), "a")
    assert order.name == f"groups/{GROUP}/orders/a"
    assert (order.campaign, order.customer, order.quantity, order.currency) == ("campaigns/mug", "customer-a", 2, "CNY")
    assert (order.max_unit_price_minor, order.opened_group, order.solo) == (8900, True, False)
    assert state_and_reason(order) == ("PLACED", "")
    assert order.revision == 1
    assert order.create_time.ToMilliseconds() == order.update_time.ToMilliseconds() == 1234


def test_an_order_whose_fact_is_gone_is_known_by_its_decisions() -> None:
    log = h.group_log()
    order = shown(folded(log.decide(1010, h.opened("a", solo=True), h.reserved("a"))), "a")
    assert (order.campaign, order.customer, order.quantity, order.currency) == ("campaigns/mug", "customer-a", 2, "CNY")
    assert (order.opened_group, order.solo) == (True, True)
    assert state_and_reason(order) == ("RESERVED", "")
    assert order.create_time.ToMilliseconds() == 1010


def test_a_settled_order_shows_price_and_money() -> None:
    order = shown(fold_history(h.two_settle_and_one_is_refunded()), "a")
    assert state_and_reason(order) == ("SETTLED", "")
    assert order.unit_price_minor == 7900
    assert money(order) == (0, 15800, 0)
    assert order.action_url == ""


def test_a_settled_order_with_a_full_refund_is_refunded() -> None:
    history = h.two_settle_and_one_is_refunded()
    in_part = folded(*history.facts, *history.decisions, *history.payments[:-1])
    assert state_and_reason(shown(in_part, "b")) == ("SETTLED", "")
    assert money(shown(in_part, "b")) == (0, 15800, 5800)
    assert state_and_reason(shown(fold_history(history), "b")) == ("REFUNDED", "")
    assert money(shown(fold_history(history), "b")) == (0, 15800, 15800)


def test_the_action_url_is_shown_until_the_money_is_held() -> None:
    log, payments = h.group_log(), h.payment_log()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), payments.decide(2, pe.action_required("a")))
    assert shown(state, "a").action_url == "https://pay.example/3ds"
    payments.decide(3, h.authorised("a")).fold(state)
    assert shown(state, "a").action_url == ""
    assert shown(state, "a").held_minor == 17800


def test_a_final_order_has_no_action_url() -> None:
    log, payments = h.group_log(), h.payment_log()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), payments.decide(2, pe.action_required("a")))
    log.decide(3, ge.seat_released("a", g.RELEASE_REASON_LAPSED)).fold(state)
    assert shown(state, "a").action_url == ""


def test_a_released_order_has_no_money_held() -> None:
    state = fold_history(h.a_group_expires_short())
    assert state_and_reason(shown(state, "a")) == ("RELEASED", "GROUP_EXPIRED")
    assert state_and_reason(shown(state, "b")) == ("LAPSED", "LAPSED")
    assert money(shown(state, "a")) == money(shown(state, "b")) == (0, 0, 0)


def test_money_is_shown_as_held_until_it_is_released() -> None:
    history = h.a_group_expires_short()
    state = folded(*history.facts, *history.decisions[:5], *history.payments[:1])
    assert state_and_reason(shown(state, "a")) == ("RELEASED", "GROUP_EXPIRED")
    assert money(shown(state, "a")) == (17800, 0, 0)


def test_a_free_seat_goes_to_the_waitlist() -> None:
    history = h.a_joiner_is_refused_and_another_waits()
    assert state_and_reason(shown(folded(*history.facts, *history.decisions[:3]), "c")) == ("WAITLISTED", "")
    state = fold_history(history)
    assert state_and_reason(shown(state, "a")) == ("DECLINED", "DECLINED")
    assert state_and_reason(shown(state, "b")) == ("REFUSED", "GROUP_FULL")
    assert state_and_reason(shown(state, "c")) == ("CONFIRMED", "")


def test_a_sale_counts_as_held_until_the_group_completes() -> None:
    history = h.a_sale_settles_and_its_excess_is_refunded()
    assert money(shown(folded(*history.facts, *history.decisions[:2], history.payments[0]), "a")) == (17800, 0, 0)
    taken = folded(*history.facts, *history.decisions[:2], *history.payments[:2])
    assert money(shown(taken, "a")) == (0, 15800, 0)
    assert money(shown(fold_history(history), "a")) == (0, 15800, 0)


def test_a_refunded_sale_without_completion_was_not_captured() -> None:
    log, payments = h.group_log(), h.payment_log()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), payments.decide(2, h.authorised("a", sale=True)))
    payments.decide(3, pe.refunded("a", 17800), pe.payment_released("a")).fold(state)
    assert money(shown(state, "a")) == (0, 0, 0)


def test_a_return_of_funds_after_a_capture_counts_as_refunded() -> None:
    log, payments = h.group_log(), h.payment_log()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), payments.decide(2, h.authorised("a")))
    payments.decide(3, h.captured("a"), pe.refunded("a", 15800)).fold(state)
    assert money(shown(state, "a")) == (0, 15800, 15800)


def test_unexpected_funds_are_not_shown() -> None:
    log, payments = h.group_log(), h.payment_log()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), payments.decide(2, h.authorised("a")))
    before = shown(state, "a")
    payments.decide(3, pe.suspense_recorded("a", 17800, "second")).fold(state)
    payments.decide(4, h.voided("a", 17800, "second")).fold(state)
    assert shown(state, "a") == before
    payments.decide(5, h.captured("a")).fold(state)
    log.decide(6, ge.member_confirmed("a"), ge.completed("a"), h.settled("a")).fold(state)
    # A second capture of its hold is refunded, and the order stays charged once.
    payments.decide(7, pe.suspense_recorded("a", 15800)).fold(state)
    payments.decide(8, pe.refunded("a", 15800)).fold(state)
    assert state_and_reason(shown(state, "a")) == ("SETTLED", "")
    assert money(shown(state, "a")) == (0, 15800, 0)


def test_a_declined_capture_ends_the_order_and_its_hold_is_released() -> None:
    history = h.a_capture_is_declined()
    assert shown(folded(*history.facts, *history.decisions, *history.payments[:-1]), "a").held_minor == 17800
    state = fold_history(history)
    order = shown(state, "a")
    assert state_and_reason(order) == ("DECLINED", "card_expired")
    assert order.cancel_refused == "COMPLETED"
    assert money(order) == (0, 0, 0)


def test_no_event_changes_a_final_state() -> None:
    log = h.group_log()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")))
    log.decide(2, ge.seat_released("a", g.RELEASE_REASON_CANCELLED)).fold(state)
    before = shown(state, "a")
    late = [
        h.reserved("a"),
        ge.member_confirmed("a"),
        h.refused("a"),
        h.settled("a"),
        ge.member_declined("a"),
        h.waitlisted("a"),
    ]
    log.decide(3, *late, ge.seat_released("a", g.RELEASE_REASON_LAPSED)).fold(state)
    assert shown(state, "a") == before


def test_a_refusal_of_a_second_payload_keeps_the_seat() -> None:
    log = h.group_log()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), log.decide(2, h.refused("a")))
    assert state_and_reason(shown(state, "a")) == ("RESERVED", "")


@pytest.mark.parametrize("number", [number for number in g.RefusalReason.values() if number])
def test_every_refusal_has_its_reason(number: g.RefusalReason.ValueType) -> None:
    order = shown(folded(h.group_log().decide(1, h.refused("a", number))), "a")
    assert state_and_reason(order) == ("REFUSED", g.RefusalReason.Name(number).removeprefix("REFUSAL_REASON_"))


@pytest.mark.parametrize("number", [number for number in g.ReleaseReason.values() if number])
def test_every_release_has_its_reason(number: g.ReleaseReason.ValueType) -> None:
    log = h.group_log()
    order = shown(folded(log.decide(1, h.opened("a"), h.reserved("a"), ge.seat_released("a", number))), "a")
    name = g.ReleaseReason.Name(number).removeprefix("RELEASE_REASON_")
    own = {"CANCELLED", "LAPSED", "DECLINED"}
    assert state_and_reason(order) == (name if name in own else "RELEASED", name)


def test_the_first_of_two_payloads_under_one_id_is_the_order() -> None:
    state = folded(h.placed("a", 1, quantity=2), h.placed("a", 2, quantity=9, request_sha256=b"other"))
    assert shown(state, "a").quantity == 2
    assert state.orders["a"].request_sha256 == digest_of("a")


def test_the_decision_names_the_request_that_owns_the_id() -> None:
    late_fact = folded(h.group_log().decide(1, h.reserved("a")), h.placed("a", 2, quantity=9, request_sha256=b"other"))
    assert late_fact.orders["a"].request_sha256 == digest_of("a")
    assert shown(late_fact, "a").quantity == 2


def test_a_payment_alone_creates_no_order() -> None:
    state = folded(h.payment_log().decide(1, h.authorised("unknown")))
    assert state.find("unknown") is None


def test_a_cancel_request_alone_changes_nothing() -> None:
    state = folded(h.placed("a"))
    before = shown(state, "a")
    h.cancel_requested("a").fold(state)
    assert shown(state, "a") == before


def test_duplicates_change_nothing() -> None:
    history = h.two_settle_and_one_is_refunded()
    state = fold_history(history)
    before = [shown(state, order) for order in ("a", "b")]
    again: list[h.Record] = [*history.facts, *history.decisions, *history.payments]
    for record in again:
        record.fold(state)
    assert [shown(state, order) for order in ("a", "b")] == before


def test_two_different_decisions_of_one_version_stop_the_fold() -> None:
    one, other = h.group_log(), h.group_log()
    state = folded(one.decide(1, h.opened("a")))
    with pytest.raises(HistoryBroken, match="two different decisions"):
        other.decide(2, h.opened("a")).fold(state)


def test_a_gap_stops_the_fold() -> None:
    payments = h.payment_log()
    state = folded(payments.decide(1, h.authorised("a")))
    payments.decide(2, h.voided("a"))
    with pytest.raises(HistoryBroken, match="jumps from version 1 to 3"):
        payments.decide(3, pe.payment_released("a")).fold(state)


def test_a_broken_chain_stops_the_fold() -> None:
    log, other = h.group_log(), h.group_log()
    state = folded(log.decide(1, h.opened("a")))
    other.decide(1, h.opened("b"))
    with pytest.raises(HistoryBroken, match="chain"):
        other.decide(2, h.reserved("a")).fold(state)


def test_an_event_of_a_newer_build_stops_the_fold() -> None:
    with pytest.raises(HistoryBroken, match="unknown event"):
        h.group_log().decide(1, g.GroupEvent()).fold(OrdersFold().initial(GROUP))
    with pytest.raises(HistoryBroken, match="unknown event"):
        h.payment_log().decide(1, p.PaymentEvent()).fold(OrdersFold().initial(GROUP))


def test_a_fact_without_a_body_is_undecodable() -> None:
    with pytest.raises(DecodeError):
        folded(h.Fact(OrderFact(order="a", group=GROUP, customer="ann"), 1))


def test_the_token_of_the_payment_method_is_not_stored() -> None:
    state = folded(h.placed("a", payment_method="card_secret"))
    assert "card_secret" not in repr(state)
