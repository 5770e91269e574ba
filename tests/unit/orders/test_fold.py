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
from tests.unit.orders import history as h
from tests.unit.orders import stories
from tests.unit.orders.stories import Story


def folded(*records: h.Record) -> GroupOrders:
    state = OrdersFold().initial(h.GROUP)
    for record in records:
        record.fold(state)
    return state


def fold_story(story: Story) -> GroupOrders:
    return folded(*story.facts, *story.decisions, *story.payments)


def shown(state: GroupOrders, order: str) -> Order:
    view = state.find(order)
    assert view is not None
    return order_message(OrderName(h.GROUP, order), state, view)


def state_and_reason(order: Order) -> tuple[str, str]:
    return OrderState.Name(order.state).removeprefix("ORDER_STATE_"), order.reason


def money(order: Order) -> tuple[int, int, int]:
    return order.held_minor, order.captured_minor, order.refunded_minor


def test_an_order_in_the_log_is_placed() -> None:
    order = shown(folded(h.placed("a", 1234, opens=True)), "a")
    assert order.name == f"groups/{h.GROUP}/orders/a"
    assert (order.campaign, order.customer, order.quantity, order.currency) == ("campaigns/mug", "customer-a", 2, "CNY")
    assert (order.max_unit_price_minor, order.opened_group, order.solo) == (8900, True, False)
    assert state_and_reason(order) == ("PLACED", "")
    assert order.revision == 1
    assert order.create_time.ToMilliseconds() == order.update_time.ToMilliseconds() == 1234


def test_an_order_whose_fact_is_gone_is_known_by_its_decisions() -> None:
    log = h.GroupLog()
    order = shown(folded(log.decide(1010, h.opened("a", solo=True), h.reserved("a"))), "a")
    assert (order.campaign, order.customer, order.quantity, order.currency) == ("campaigns/mug", "customer-a", 2, "CNY")
    assert (order.opened_group, order.solo) == (True, True)
    assert state_and_reason(order) == ("RESERVED", "")
    assert order.create_time.ToMilliseconds() == 1010


def test_a_settled_order_shows_price_and_money() -> None:
    order = shown(fold_story(stories.two_settle_and_one_is_refunded()), "a")
    assert state_and_reason(order) == ("SETTLED", "")
    assert order.unit_price_minor == 7900
    assert money(order) == (0, 15800, 0)
    assert order.action_url == ""


def test_a_settled_order_with_a_full_refund_is_refunded() -> None:
    story = stories.two_settle_and_one_is_refunded()
    in_part = folded(*story.facts, *story.decisions, *story.payments[:-1])
    assert state_and_reason(shown(in_part, "b")) == ("SETTLED", "")
    assert money(shown(in_part, "b")) == (0, 15800, 5800)
    assert state_and_reason(shown(fold_story(story), "b")) == ("REFUNDED", "")
    assert money(shown(fold_story(story), "b")) == (0, 15800, 15800)


def test_the_action_url_is_shown_until_the_money_is_held() -> None:
    log, purse = h.GroupLog(), h.PurseLog()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), purse.decide(2, h.action_required("a")))
    assert shown(state, "a").action_url == "https://pay.example/3ds"
    purse.decide(3, h.authorised("a")).fold(state)
    assert shown(state, "a").action_url == ""
    assert shown(state, "a").held_minor == 17800


def test_a_final_order_has_no_action_url() -> None:
    log, purse = h.GroupLog(), h.PurseLog()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), purse.decide(2, h.action_required("a")))
    log.decide(3, h.seat_released("a", g.RELEASE_REASON_LAPSED)).fold(state)
    assert shown(state, "a").action_url == ""


def test_a_released_order_has_no_money_held() -> None:
    state = fold_story(stories.a_group_expires_short())
    assert state_and_reason(shown(state, "a")) == ("RELEASED", "GROUP_EXPIRED")
    assert state_and_reason(shown(state, "b")) == ("LAPSED", "LAPSED")
    assert money(shown(state, "a")) == money(shown(state, "b")) == (0, 0, 0)


def test_money_is_shown_as_held_until_it_is_released() -> None:
    story = stories.a_group_expires_short()
    state = folded(*story.facts, *story.decisions[:5], *story.payments[:1])
    assert state_and_reason(shown(state, "a")) == ("RELEASED", "GROUP_EXPIRED")
    assert money(shown(state, "a")) == (17800, 0, 0)


def test_a_free_seat_goes_to_the_waitlist() -> None:
    story = stories.a_joiner_is_refused_and_another_waits()
    assert state_and_reason(shown(folded(*story.facts, *story.decisions[:3]), "c")) == ("WAITLISTED", "")
    state = fold_story(story)
    assert state_and_reason(shown(state, "a")) == ("DECLINED", "DECLINED")
    assert state_and_reason(shown(state, "b")) == ("REFUSED", "GROUP_FULL")
    assert state_and_reason(shown(state, "c")) == ("CONFIRMED", "")


def test_a_sale_counts_as_held_until_the_group_completes() -> None:
    story = stories.a_sale_settles_with_its_excess_given_back()
    assert money(shown(folded(*story.facts, *story.decisions[:2], story.payments[0]), "a")) == (17800, 0, 0)
    taken = folded(*story.facts, *story.decisions[:2], *story.payments[:2])
    assert money(shown(taken, "a")) == (0, 15800, 0)
    assert money(shown(fold_story(story), "a")) == (0, 15800, 0)


def test_a_refunded_sale_without_completion_was_not_captured() -> None:
    log, purse = h.GroupLog(), h.PurseLog()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), purse.decide(2, h.authorised("a", sale=True)))
    purse.decide(3, h.refunded("a", 17800), h.payment_released("a")).fold(state)
    assert money(shown(state, "a")) == (0, 0, 0)


def test_a_return_of_funds_after_a_capture_counts_as_refunded() -> None:
    log, purse = h.GroupLog(), h.PurseLog()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), purse.decide(2, h.authorised("a")))
    purse.decide(3, h.captured("a"), h.refunded("a", 15800)).fold(state)
    assert money(shown(state, "a")) == (0, 15800, 15800)


def test_unexpected_funds_are_not_shown() -> None:
    log, purse = h.GroupLog(), h.PurseLog()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), purse.decide(2, h.authorised("a")))
    before = shown(state, "a")
    purse.decide(3, h.suspense("a", 17800, "second")).fold(state)
    purse.decide(4, h.voided("a", 17800, "second")).fold(state)
    assert shown(state, "a") == before
    purse.decide(5, h.captured("a")).fold(state)
    log.decide(6, h.confirmed("a"), h.completed("a"), h.settled("a")).fold(state)
    # A second capture of its hold is refunded, and the order stays charged once.
    purse.decide(7, h.suspense("a", 15800)).fold(state)
    purse.decide(8, h.refunded("a", 15800)).fold(state)
    assert state_and_reason(shown(state, "a")) == ("SETTLED", "")
    assert money(shown(state, "a")) == (0, 15800, 0)


def test_a_declined_capture_ends_the_order_and_its_hold_is_released() -> None:
    story = stories.a_capture_is_declined()
    assert shown(folded(*story.facts, *story.decisions, *story.payments[:-1]), "a").held_minor == 17800
    state = fold_story(story)
    order = shown(state, "a")
    assert state_and_reason(order) == ("DECLINED", "card_expired")
    assert order.cancel_refused == "COMPLETED"
    assert money(order) == (0, 0, 0)


def test_no_event_changes_a_final_state() -> None:
    log = h.GroupLog()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")))
    log.decide(2, h.seat_released("a", g.RELEASE_REASON_CANCELLED)).fold(state)
    before = shown(state, "a")
    late = [
        h.reserved("a"),
        h.confirmed("a"),
        h.refused("a"),
        h.settled("a"),
        h.member_declined("a"),
        h.waitlisted("a"),
    ]
    log.decide(3, *late, h.seat_released("a", g.RELEASE_REASON_LAPSED)).fold(state)
    assert shown(state, "a") == before


def test_a_refusal_of_a_second_payload_keeps_the_seat() -> None:
    log = h.GroupLog()
    state = folded(log.decide(1, h.opened("a"), h.reserved("a")), log.decide(2, h.refused("a")))
    assert state_and_reason(shown(state, "a")) == ("RESERVED", "")


@pytest.mark.parametrize("number", [number for number in g.RefusalReason.values() if number])
def test_every_refusal_has_its_reason(number: g.RefusalReason.ValueType) -> None:
    order = shown(folded(h.GroupLog().decide(1, h.refused("a", number))), "a")
    assert state_and_reason(order) == ("REFUSED", g.RefusalReason.Name(number).removeprefix("REFUSAL_REASON_"))


@pytest.mark.parametrize("number", [number for number in g.ReleaseReason.values() if number])
def test_every_release_has_its_reason(number: g.ReleaseReason.ValueType) -> None:
    log = h.GroupLog()
    order = shown(folded(log.decide(1, h.opened("a"), h.reserved("a"), h.seat_released("a", number))), "a")
    name = g.ReleaseReason.Name(number).removeprefix("RELEASE_REASON_")
    own = {"CANCELLED", "LAPSED", "DECLINED"}
    assert state_and_reason(order) == (name if name in own else "RELEASED", name)


def test_the_first_of_two_payloads_under_one_id_is_the_order() -> None:
    state = folded(h.placed("a", 1, quantity=2), h.placed("a", 2, quantity=9, request_sha256=b"other"))
    assert shown(state, "a").quantity == 2
    assert state.orders["a"].request_sha256 == h.digest_of("a")


def test_the_decision_names_the_request_that_owns_the_id() -> None:
    late_fact = folded(h.GroupLog().decide(1, h.reserved("a")), h.placed("a", 2, quantity=9, request_sha256=b"other"))
    assert late_fact.orders["a"].request_sha256 == h.digest_of("a")
    assert shown(late_fact, "a").quantity == 2


def test_a_payment_alone_creates_no_order() -> None:
    state = folded(h.PurseLog().decide(1, h.authorised("stray")))
    assert state.find("stray") is None


def test_a_cancel_request_alone_changes_nothing() -> None:
    state = folded(h.placed("a"))
    before = shown(state, "a")
    h.cancel_requested("a").fold(state)
    assert shown(state, "a") == before


def test_duplicates_change_nothing() -> None:
    story = stories.two_settle_and_one_is_refunded()
    state = fold_story(story)
    before = [shown(state, order) for order in ("a", "b")]
    again: list[h.Record] = [*story.facts, *story.decisions, *story.payments]
    for record in again:
        record.fold(state)
    assert [shown(state, order) for order in ("a", "b")] == before


def test_two_different_decisions_of_one_version_stop_the_fold() -> None:
    one, other = h.GroupLog(), h.GroupLog()
    state = folded(one.decide(1, h.opened("a")))
    with pytest.raises(HistoryBroken, match="two different decisions"):
        other.decide(2, h.opened("a")).fold(state)


def test_a_gap_stops_the_fold() -> None:
    purse = h.PurseLog()
    state = folded(purse.decide(1, h.authorised("a")))
    purse.decide(2, h.voided("a"))
    with pytest.raises(HistoryBroken, match="jumps from version 1 to 3"):
        purse.decide(3, h.payment_released("a")).fold(state)


def test_a_broken_chain_stops_the_fold() -> None:
    log, other = h.GroupLog(), h.GroupLog()
    state = folded(log.decide(1, h.opened("a")))
    other.decide(1, h.opened("b"))
    with pytest.raises(HistoryBroken, match="chain"):
        other.decide(2, h.reserved("a")).fold(state)


def test_an_event_of_a_newer_build_stops_the_fold() -> None:
    with pytest.raises(HistoryBroken, match="unknown event"):
        h.GroupLog().decide(1, g.GroupEvent()).fold(OrdersFold().initial(h.GROUP))
    with pytest.raises(HistoryBroken, match="unknown event"):
        h.PurseLog().decide(1, p.PaymentEvent()).fold(OrdersFold().initial(h.GROUP))


def test_a_fact_without_a_body_is_undecodable() -> None:
    with pytest.raises(DecodeError):
        folded(h.Fact(OrderFact(order="a", group=h.GROUP, customer="ann"), 1))


def test_the_token_of_the_payment_method_is_not_stored() -> None:
    state = folded(h.placed("a", payment_method="card_secret"))
    assert "card_secret" not in repr(state)
