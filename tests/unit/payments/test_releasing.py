"""A release ends with nothing held, whatever the provider reports, and is reported exactly once."""

from __future__ import annotations

import pytest

from tests.scenarios.payments import (
    AUTHORISE,
    CAPTURE,
    REFUND,
    SALE,
    VOID,
    absent,
    action_required,
    authorised,
    captured,
    declined,
    given,
    hold_gone,
    refund,
    refunded,
    release,
    reserved,
    retry_later,
    settle,
    sold,
    tick,
    voided,
)


def test_an_unknown_order_is_released_at_once() -> None:
    scenario = given().when(release()).then("PaymentReleased")
    scenario.when(release()).then_nothing()


def test_a_seat_that_comes_after_its_release_is_not_held() -> None:
    given(release()).when(reserved()).then_nothing()


def test_a_release_before_the_result_is_noted_without_a_call() -> None:
    scenario = given(reserved()).when(release()).then("VoidRequested noted")
    assert scenario.calls == []
    scenario.when(release()).then_nothing()


def test_a_hold_that_succeeds_after_its_release_is_voided() -> None:
    scenario = given(reserved(), release()).when(authorised())
    scenario.then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")
    assert scenario.calls == ["o1:void:1"]
    scenario.when(voided()).then("Voided h1 100", "PaymentReleased")
    scenario.when(voided()).then_nothing()
    scenario.when(authorised()).then_nothing()


def test_a_sale_that_succeeds_after_its_release_is_refunded() -> None:
    scenario = given(reserved(method="wallet_ok"), release()).when(sold())
    scenario.then("HoldAuthorised h1 100", "RefundRequested refund:1 h1 100")
    scenario.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_decline_after_the_release_ends_it() -> None:
    given(reserved(), release()).when(declined()).then("HoldDeclined", "PaymentReleased")


def test_a_call_that_never_arrived_is_not_made_again_after_the_release() -> None:
    given(reserved(), release()).when(absent()).then("PaymentReleased")


def test_a_call_with_an_unknown_result_is_retried_after_the_release_and_its_hold_voided() -> None:
    scenario = given(reserved(), release()).when(retry_later()).then("CallDeferred authorise:1")
    scenario.when(tick(), after_ms=1_000).then("CallRetried authorise:1 100")
    scenario.when(authorised()).then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")


def test_a_release_during_a_deferral_voids_the_hold_when_it_arrives() -> None:
    scenario = given(reserved(), retry_later()).when(release()).then("VoidRequested noted")
    scenario.when(tick(), after_ms=1_000).then("CallRetried authorise:1 100")
    scenario.when(authorised()).then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")


def test_a_held_order_is_voided() -> None:
    scenario = given(reserved(), authorised()).when(release()).then("VoidRequested void:1 h1 100")
    scenario.when(release()).then_nothing()
    scenario.when(voided()).then("Voided h1 100", "PaymentReleased")
    scenario.when(release()).then_nothing()


def test_a_hold_that_had_already_lapsed_completes_the_release() -> None:
    given(reserved(), authorised(), release()).when(hold_gone(VOID)).then("HoldLapsed h1 100", "PaymentReleased")


def test_a_sale_is_refunded_in_full() -> None:
    scenario = given(reserved(method="wallet_ok"), sold()).when(release()).then("RefundRequested refund:1 h1 100")
    scenario.when(release()).then_nothing()
    scenario.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_pending_confirmation_is_voided() -> None:
    scenario = given(reserved(), action_required()).when(release()).then("VoidRequested void:1 h1")
    assert scenario.calls == ["o1:void:1"]
    scenario.when(voided()).then("Voided h1 0", "PaymentReleased")
    assert scenario.domain.due(scenario.state) is None
    scenario.when(authorised()).then_nothing()


def test_a_confirmation_requested_after_the_release_is_voided() -> None:
    scenario = given(reserved(), release()).when(action_required())
    scenario.then("ActionRequired h1 https://confirm", "CallDeferred authorise:1", "VoidRequested void:1 h1")
    assert scenario.calls == ["o1:void:1"]
    scenario.when(hold_gone(VOID)).then("HoldLapsed h1 0", "PaymentReleased")


def test_a_release_waits_for_a_confirmation_without_a_reference() -> None:
    scenario = given(reserved(), action_required(hold="")).when(release()).then("VoidRequested noted")
    scenario.when(authorised()).then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")


def test_a_hold_confirmed_during_its_void_is_voided_once() -> None:
    scenario = given(reserved(), action_required(), release()).when(authorised()).then("HoldAuthorised h1 100")
    scenario.when(voided()).then("Voided h1 100", "PaymentReleased")


def test_a_prepayment_paid_during_its_void_is_refunded() -> None:
    scenario = given(reserved(method="wallet_ok"), action_required(operation=SALE), release())
    scenario.when(captured(amount=100, operation=VOID)).then("HoldAuthorised h1 100", "RefundRequested refund:1 h1 100")
    scenario.when(sold()).then_nothing()
    scenario.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_unexpected_funds_during_the_void_of_a_confirmation_are_returned() -> None:
    scenario = given(reserved(), action_required(), release())
    scenario.when(captured(amount=100, operation=AUTHORISE)).then(
        "HoldDeclined", "SuspenseRecorded h1 100 CNY", "RefundRequested refund:1 h1 100"
    )
    scenario.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_declined_order_is_released_at_once() -> None:
    given(reserved(), declined()).when(release()).then("PaymentReleased")


def test_a_charged_order_is_refunded_in_full() -> None:
    scenario = given(reserved(), authorised(), settle(), captured()).when(release())
    scenario.then("VoidRequested noted", "RefundRequested refund:1 h1 60")
    assert scenario.calls == ["o1:refund:1"]
    scenario.when(refunded(60)).then("Refunded h1 60", "PaymentReleased")
    scenario.when(captured()).then_nothing()


def test_a_release_refunds_only_what_commanded_refunds_left() -> None:
    scenario = given(reserved(), authorised(), settle(), captured(), refund("r1", 20), refunded(20))
    scenario.when(refund("r2", 10)).when(release()).then("VoidRequested noted", "RefundRequested refund:3 h1 30")
    scenario.when(refunded(30, 3)).then("Refunded h1 30")
    scenario.when(refunded(10, 2)).then("Refunded h1 10 r2", "PaymentReleased")


def test_the_amount_of_a_refund_declined_during_a_release_is_refunded_by_the_release() -> None:
    scenario = given(reserved(), authorised(), settle(), captured(), refund("r1", 20), release(), refunded(40, 2))
    scenario.when(declined(REFUND, 1)).then("RefundDeclined r1 20", "RefundRequested refund:3 h1 20")
    scenario.when(refunded(20, 3)).then("Refunded h1 20", "PaymentReleased")


def test_an_order_whose_money_was_all_refunded_is_released_at_once() -> None:
    given(reserved(), authorised(), settle(), captured(), refund(), refunded(60)).when(release()).then(
        "PaymentReleased"
    )


@pytest.mark.parametrize("released_first", [True, False])
def test_a_capture_and_a_release_end_with_no_money_kept(released_first: bool) -> None:
    scenario = given(reserved(), authorised(), settle())
    for one in [release(), captured()] if released_first else [captured(), release()]:
        scenario.when(one)
    assert scenario.calls == ["o1:refund:1"]
    scenario.when(refunded(60)).then("Refunded h1 60", "PaymentReleased")


def test_a_capture_declined_after_the_release_voids_the_hold() -> None:
    scenario = given(reserved(), authorised(), settle(), release()).when(declined(CAPTURE))
    scenario.then("VoidRequested void:1 h1 100")
    scenario.when(voided()).then("Voided h1 100", "PaymentReleased")


def test_a_capture_that_never_arrived_is_not_made_again_after_the_release() -> None:
    scenario = given(reserved(), authorised(), settle(), release()).when(absent(CAPTURE))
    scenario.then("VoidRequested void:1 h1 100")


def test_a_hold_that_lapsed_at_its_capture_is_not_renewed_after_the_release() -> None:
    given(reserved(), authorised(), settle(), release()).when(hold_gone()).then("HoldLapsed h1 100", "PaymentReleased")


def test_a_void_with_the_result_captured_is_booked_and_refunded() -> None:
    scenario = given(reserved(), authorised(), release()).when(captured(amount=100, operation=VOID))
    scenario.then("Captured h1 100 released 0", "RefundRequested refund:1 h1 100")
    scenario.when(refunded(100)).then("Refunded h1 100", "PaymentReleased")


def test_a_declined_void_is_retried_later_under_the_next_attempt() -> None:
    scenario = given(reserved(), authorised(), release()).when(declined(VOID))
    scenario.then("CallRetried void:2 h1 100", "CallDeferred void:2")
    assert scenario.calls == [], "the decision defers the call itself"
    assert scenario.events[1].call_deferred.retry_at_ms == scenario.now_ms + 1_000
    scenario.when(tick(), after_ms=1_000).then("CallRetried void:2 h1 100")
    assert scenario.calls == ["o1:void:2"]
    scenario.when(declined(VOID, 2)).then("CallRetried void:3 h1 100", "CallDeferred void:3")
    assert scenario.events[1].call_deferred.retry_at_ms == scenario.now_ms + 2_000
    scenario.when(hold_gone(VOID, 2)).then("HoldLapsed h1 100", "PaymentReleased")


def test_a_lapsed_hold_is_released_at_once() -> None:
    scenario = given(reserved(), authorised(), hold_gone(AUTHORISE)).when(release())
    scenario.then("VoidRequested noted", "PaymentReleased")


def test_a_release_whose_refund_is_declined_ends_with_the_amount_owed() -> None:
    scenario = given(reserved(method="wallet_ok"), sold(), release()).when(declined(REFUND))
    scenario.then("RefundDeclined 100", "PaymentReleased")
    scenario.when(refunded(100)).then("Refunded h1 100")
    scenario.when(refunded(100)).then_nothing()
