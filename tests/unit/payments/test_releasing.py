"""Whatever an order's money does, a release ends with nothing held and is said to be done exactly once."""

from __future__ import annotations

import pytest

from tests.unit.payments.stories import (
    AUTHORISE,
    CAPTURE,
    REFUND,
    SALE,
    VOID,
    absent,
    action,
    authorised,
    captured,
    declined,
    given,
    gone,
    later,
    refund,
    refunded,
    release,
    reserved,
    settle,
    sold,
    tick,
    voided,
)


def test_an_order_that_was_never_asked_for_is_released_at_once() -> None:
    story = given().when(release()).then("PaymentReleased")
    story.when(release()).then_nothing()


def test_a_seat_that_comes_after_its_release_is_not_held() -> None:
    given(release()).when(reserved()).then_nothing()


def test_a_release_before_the_answer_is_remembered_without_a_call() -> None:
    story = given(reserved()).when(release()).then("VoidRequested nothing yet")
    assert story.calls == []
    story.when(release()).then_nothing()


def test_a_hold_that_succeeds_after_its_seat_was_released_is_let_go() -> None:
    story = given(reserved(), release()).when(authorised())
    story.then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")
    assert story.calls == ["o1:void:1"]
    story.when(voided()).then("Voided h1 100", "PaymentReleased")
    story.when(voided()).then_nothing()
    story.when(authorised()).then_nothing()


def test_a_sale_that_succeeds_after_its_seat_was_released_is_given_back() -> None:
    story = given(reserved(method="wallet_ok"), release()).when(sold())
    story.then("HoldAuthorised h1 100", "RefundRequested refund:1 h1 100")
    story.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_decline_after_the_release_ends_it() -> None:
    given(reserved(), release()).when(declined()).then("HoldDeclined", "PaymentReleased")


def test_a_call_that_never_arrived_is_not_made_again_after_the_release() -> None:
    given(reserved(), release()).when(absent()).then("PaymentReleased")


def test_a_call_with_an_unknown_result_is_asked_again_after_the_release_and_then_let_go() -> None:
    story = given(reserved(), release()).when(later()).then("CallDeferred authorise:1")
    story.when(tick(), after_ms=1_000).then("CallRetried authorise:1 100")
    story.when(authorised()).then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")


def test_a_release_while_the_call_waits_lets_the_hold_go_when_it_comes() -> None:
    story = given(reserved(), later()).when(release()).then("VoidRequested nothing yet")
    story.when(tick(), after_ms=1_000).then("CallRetried authorise:1 100")
    story.when(authorised()).then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")


def test_a_held_order_is_let_go() -> None:
    story = given(reserved(), authorised()).when(release()).then("VoidRequested void:1 h1 100")
    story.when(release()).then_nothing()
    story.when(voided()).then("Voided h1 100", "PaymentReleased")
    story.when(release()).then_nothing()


def test_a_hold_that_was_gone_already_is_a_release_too() -> None:
    given(reserved(), authorised(), release()).when(gone(VOID)).then("HoldLapsed h1 100", "PaymentReleased")


def test_a_taken_sale_is_given_back_in_full() -> None:
    story = given(reserved(method="wallet_ok"), sold()).when(release()).then("RefundRequested refund:1 h1 100")
    story.when(release()).then_nothing()
    story.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_confirmation_under_way_is_called_off() -> None:
    story = given(reserved(), action()).when(release()).then("VoidRequested void:1 h1")
    assert story.calls == ["o1:void:1"]
    story.when(voided()).then("Voided h1 0", "PaymentReleased")
    assert story.domain.due(story.payments) is None
    story.when(authorised()).then_nothing()


def test_a_confirmation_asked_for_after_the_release_is_called_off() -> None:
    story = given(reserved(), release()).when(action())
    story.then("ActionRequired h1 https://confirm", "CallDeferred authorise:1", "VoidRequested void:1 h1")
    assert story.calls == ["o1:void:1"]
    story.when(gone(VOID)).then("HoldLapsed h1 0", "PaymentReleased")


def test_a_confirmation_without_a_reference_is_waited_for_after_the_release() -> None:
    story = given(reserved(), action(hold="")).when(release()).then("VoidRequested nothing yet")
    story.when(authorised()).then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")


def test_a_shopper_who_confirms_while_it_is_called_off_is_let_go_once() -> None:
    story = given(reserved(), action(), release()).when(authorised()).then("HoldAuthorised h1 100")
    story.when(voided()).then("Voided h1 100", "PaymentReleased")


def test_a_prepayment_that_was_paid_while_it_was_called_off_is_given_back() -> None:
    story = given(reserved(method="wallet_ok"), action(operation=SALE), release())
    story.when(captured(amount=100, operation=VOID)).then("HoldAuthorised h1 100", "RefundRequested refund:1 h1 100")
    story.when(sold()).then_nothing()
    story.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_money_taken_without_being_asked_while_a_confirmation_is_called_off_is_given_back() -> None:
    story = given(reserved(), action(), release())
    story.when(captured(amount=100, operation=AUTHORISE)).then(
        "HoldDeclined", "SuspenseRecorded h1 100 CNY", "RefundRequested refund:1 h1 100"
    )
    story.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_declined_order_is_released_at_once() -> None:
    given(reserved(), declined()).when(release()).then("PaymentReleased")


def test_a_charged_order_is_given_all_of_its_money_back() -> None:
    story = given(reserved(), authorised(), settle(), captured()).when(release())
    story.then("VoidRequested nothing yet", "RefundRequested refund:1 h1 60")
    assert story.calls == ["o1:refund:1"]
    story.when(refunded(60)).then("Refunded h1 60", "PaymentReleased")
    story.when(captured()).then_nothing()


def test_a_release_gives_back_only_what_commanded_refunds_have_left() -> None:
    story = given(reserved(), authorised(), settle(), captured(), refund("r1", 20), refunded(20))
    story.when(refund("r2", 10)).when(release()).then("VoidRequested nothing yet", "RefundRequested refund:3 h1 30")
    story.when(refunded(30, 3)).then("Refunded h1 30")
    story.when(refunded(10, 2)).then("Refunded h1 10 r2", "PaymentReleased")


def test_a_commanded_refund_that_is_refused_during_a_release_is_given_back_all_the_same() -> None:
    story = given(reserved(), authorised(), settle(), captured(), refund("r1", 20), release(), refunded(40, 2))
    story.when(declined(REFUND, 1)).then("RefundDeclined r1 20", "RefundRequested refund:3 h1 20")
    story.when(refunded(20, 3)).then("Refunded h1 20", "PaymentReleased")


def test_an_order_whose_money_was_all_refunded_is_released_at_once() -> None:
    given(reserved(), authorised(), settle(), captured(), refund(), refunded(60)).when(release()).then(
        "PaymentReleased"
    )


@pytest.mark.parametrize("released_first", [True, False])
def test_a_capture_and_a_release_never_both_keep_the_money(released_first: bool) -> None:
    story = given(reserved(), authorised(), settle())
    for one in [release(), captured()] if released_first else [captured(), release()]:
        story.when(one)
    assert story.calls == ["o1:refund:1"]
    story.when(refunded(60)).then("Refunded h1 60", "PaymentReleased")


def test_a_capture_refused_after_the_release_lets_the_hold_go() -> None:
    story = given(reserved(), authorised(), settle(), release()).when(declined(CAPTURE))
    story.then("VoidRequested void:1 h1 100")
    story.when(voided()).then("Voided h1 100", "PaymentReleased")


def test_a_capture_that_never_arrived_is_not_made_again_after_the_release() -> None:
    story = given(reserved(), authorised(), settle(), release()).when(absent(CAPTURE))
    story.then("VoidRequested void:1 h1 100")


def test_a_hold_gone_at_a_capture_after_the_release_is_not_renewed() -> None:
    given(reserved(), authorised(), settle(), release()).when(gone()).then("HoldLapsed h1 100", "PaymentReleased")


def test_a_void_answered_with_captured_is_recorded_and_given_back() -> None:
    story = given(reserved(), authorised(), release()).when(captured(amount=100, operation=VOID))
    story.then("Captured h1 100 released 0", "RefundRequested refund:1 h1 100")
    story.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_void_that_is_refused_is_asked_again_later_under_the_next_attempt() -> None:
    story = given(reserved(), authorised(), release()).when(declined(VOID))
    story.then("CallRetried void:2 h1 100", "CallDeferred void:2")
    assert story.calls == [], "the decision defers the call itself"
    assert story.events[1].call_deferred.retry_at_ms == story.at_ms + 1_000
    story.when(tick(), after_ms=1_000).then("CallRetried void:2 h1 100")
    assert story.calls == ["o1:void:2"]
    story.when(declined(VOID, 2)).then("CallRetried void:3 h1 100", "CallDeferred void:3")
    assert story.events[1].call_deferred.retry_at_ms == story.at_ms + 2_000
    story.when(gone(VOID, 2)).then("HoldLapsed h1 100", "PaymentReleased")


def test_a_lapsed_hold_is_released_at_once() -> None:
    story = given(reserved(), authorised(), gone(AUTHORISE)).when(release())
    story.then("VoidRequested nothing yet", "PaymentReleased")


def test_a_release_that_can_not_be_paid_back_alarms_and_ends() -> None:
    story = given(reserved(method="wallet_ok"), sold(), release()).when(declined(REFUND))
    story.then("RefundDeclined 100", "PaymentReleased")
    story.when(refunded(100)).then("Refunded h1 100")
    story.when(refunded(100)).then_nothing()
