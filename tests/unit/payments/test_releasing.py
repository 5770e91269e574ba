"""A release ends with nothing held, whatever the provider reports, and is reported exactly once."""

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


def test_an_unknown_order_is_released_at_once() -> None:
    story = given().when(release()).then("PaymentReleased")
    story.when(release()).then_nothing()


def test_a_seat_that_comes_after_its_release_is_not_held() -> None:
    given(release()).when(reserved()).then_nothing()


def test_a_release_before_the_result_is_noted_without_a_call() -> None:
    story = given(reserved()).when(release()).then("VoidRequested noted")
    assert story.calls == []
    story.when(release()).then_nothing()


def test_a_hold_that_succeeds_after_its_release_is_voided() -> None:
    story = given(reserved(), release()).when(authorised())
    story.then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")
    assert story.calls == ["o1:void:1"]
    story.when(voided()).then("Voided h1 100", "PaymentReleased")
    story.when(voided()).then_nothing()
    story.when(authorised()).then_nothing()


def test_a_sale_that_succeeds_after_its_release_is_refunded() -> None:
    story = given(reserved(method="wallet_ok"), release()).when(sold())
    story.then("HoldAuthorised h1 100", "RefundRequested refund:1 h1 100")
    story.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_decline_after_the_release_ends_it() -> None:
    given(reserved(), release()).when(declined()).then("HoldDeclined", "PaymentReleased")


def test_a_call_that_never_arrived_is_not_made_again_after_the_release() -> None:
    given(reserved(), release()).when(absent()).then("PaymentReleased")


def test_a_call_with_an_unknown_result_is_retried_after_the_release_and_its_hold_voided() -> None:
    story = given(reserved(), release()).when(later()).then("CallDeferred authorise:1")
    story.when(tick(), after_ms=1_000).then("CallRetried authorise:1 100")
    story.when(authorised()).then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")


def test_a_release_during_a_deferral_voids_the_hold_when_it_arrives() -> None:
    story = given(reserved(), later()).when(release()).then("VoidRequested noted")
    story.when(tick(), after_ms=1_000).then("CallRetried authorise:1 100")
    story.when(authorised()).then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")


def test_a_held_order_is_voided() -> None:
    story = given(reserved(), authorised()).when(release()).then("VoidRequested void:1 h1 100")
    story.when(release()).then_nothing()
    story.when(voided()).then("Voided h1 100", "PaymentReleased")
    story.when(release()).then_nothing()


def test_a_hold_that_had_already_lapsed_completes_the_release() -> None:
    given(reserved(), authorised(), release()).when(gone(VOID)).then("HoldLapsed h1 100", "PaymentReleased")


def test_a_sale_is_refunded_in_full() -> None:
    story = given(reserved(method="wallet_ok"), sold()).when(release()).then("RefundRequested refund:1 h1 100")
    story.when(release()).then_nothing()
    story.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_pending_confirmation_is_voided() -> None:
    story = given(reserved(), action()).when(release()).then("VoidRequested void:1 h1")
    assert story.calls == ["o1:void:1"]
    story.when(voided()).then("Voided h1 0", "PaymentReleased")
    assert story.domain.due(story.payments) is None
    story.when(authorised()).then_nothing()


def test_a_confirmation_requested_after_the_release_is_voided() -> None:
    story = given(reserved(), release()).when(action())
    story.then("ActionRequired h1 https://confirm", "CallDeferred authorise:1", "VoidRequested void:1 h1")
    assert story.calls == ["o1:void:1"]
    story.when(gone(VOID)).then("HoldLapsed h1 0", "PaymentReleased")


def test_a_release_waits_for_a_confirmation_without_a_reference() -> None:
    story = given(reserved(), action(hold="")).when(release()).then("VoidRequested noted")
    story.when(authorised()).then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")


def test_a_hold_confirmed_during_its_void_is_voided_once() -> None:
    story = given(reserved(), action(), release()).when(authorised()).then("HoldAuthorised h1 100")
    story.when(voided()).then("Voided h1 100", "PaymentReleased")


def test_a_prepayment_paid_during_its_void_is_refunded() -> None:
    story = given(reserved(method="wallet_ok"), action(operation=SALE), release())
    story.when(captured(amount=100, operation=VOID)).then("HoldAuthorised h1 100", "RefundRequested refund:1 h1 100")
    story.when(sold()).then_nothing()
    story.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_unexpected_funds_during_the_void_of_a_confirmation_are_returned() -> None:
    story = given(reserved(), action(), release())
    story.when(captured(amount=100, operation=AUTHORISE)).then(
        "HoldDeclined", "SuspenseRecorded h1 100 CNY", "RefundRequested refund:1 h1 100"
    )
    story.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_declined_order_is_released_at_once() -> None:
    given(reserved(), declined()).when(release()).then("PaymentReleased")


def test_a_charged_order_is_refunded_in_full() -> None:
    story = given(reserved(), authorised(), settle(), captured()).when(release())
    story.then("VoidRequested noted", "RefundRequested refund:1 h1 60")
    assert story.calls == ["o1:refund:1"]
    story.when(refunded(60)).then("Refunded h1 60", "PaymentReleased")
    story.when(captured()).then_nothing()


def test_a_release_refunds_only_what_commanded_refunds_left() -> None:
    story = given(reserved(), authorised(), settle(), captured(), refund("r1", 20), refunded(20))
    story.when(refund("r2", 10)).when(release()).then("VoidRequested noted", "RefundRequested refund:3 h1 30")
    story.when(refunded(30, 3)).then("Refunded h1 30")
    story.when(refunded(10, 2)).then("Refunded h1 10 r2", "PaymentReleased")


def test_the_amount_of_a_refund_declined_during_a_release_is_refunded_by_the_release() -> None:
    story = given(reserved(), authorised(), settle(), captured(), refund("r1", 20), release(), refunded(40, 2))
    story.when(declined(REFUND, 1)).then("RefundDeclined r1 20", "RefundRequested refund:3 h1 20")
    story.when(refunded(20, 3)).then("Refunded h1 20", "PaymentReleased")


def test_an_order_whose_money_was_all_refunded_is_released_at_once() -> None:
    given(reserved(), authorised(), settle(), captured(), refund(), refunded(60)).when(release()).then(
        "PaymentReleased"
    )


@pytest.mark.parametrize("released_first", [True, False])
def test_a_capture_and_a_release_end_with_no_money_kept(released_first: bool) -> None:
    story = given(reserved(), authorised(), settle())
    for one in [release(), captured()] if released_first else [captured(), release()]:
        story.when(one)
    assert story.calls == ["o1:refund:1"]
    story.when(refunded(60)).then("Refunded h1 60", "PaymentReleased")


def test_a_capture_declined_after_the_release_voids_the_hold() -> None:
    story = given(reserved(), authorised(), settle(), release()).when(declined(CAPTURE))
    story.then("VoidRequested void:1 h1 100")
    story.when(voided()).then("Voided h1 100", "PaymentReleased")


def test_a_capture_that_never_arrived_is_not_made_again_after_the_release() -> None:
    story = given(reserved(), authorised(), settle(), release()).when(absent(CAPTURE))
    story.then("VoidRequested void:1 h1 100")


def test_a_hold_that_lapsed_at_its_capture_is_not_renewed_after_the_release() -> None:
    given(reserved(), authorised(), settle(), release()).when(gone()).then("HoldLapsed h1 100", "PaymentReleased")


def test_a_void_with_the_result_captured_is_booked_and_refunded() -> None:
    story = given(reserved(), authorised(), release()).when(captured(amount=100, operation=VOID))
    story.then("Captured h1 100 released 0", "RefundRequested refund:1 h1 100")
    story.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_declined_void_is_retried_later_under_the_next_attempt() -> None:
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
    story.then("VoidRequested noted", "PaymentReleased")


def test_a_release_whose_refund_is_declined_ends_with_the_amount_owed() -> None:
    story = given(reserved(method="wallet_ok"), sold(), release()).when(declined(REFUND))
    story.then("RefundDeclined 100", "PaymentReleased")
    story.when(refunded(100)).then("Refunded h1 100")
    story.when(refunded(100)).then_nothing()
