"""Unexpected funds are recorded and returned in every status, and tracked until they are returned."""

from __future__ import annotations

from tests.scenarios.payments import (
    CAPTURE,
    VOID,
    absent,
    authorised,
    captured,
    declined,
    given,
    hold_gone,
    refunded,
    release,
    reserved,
    retry_later,
    settle,
    sold,
    tick,
    voided,
)


def test_a_hold_of_an_unknown_order_is_returned() -> None:
    scenario = given().when(authorised("h9")).then("SuspenseRecorded h9 100 CNY", "VoidRequested void:1 h9 100")
    assert scenario.calls == ["o1:void:1"]
    scenario.when(authorised("h9")).then_nothing()
    scenario.when(voided("h9")).then("Voided h9 100")
    scenario.when(authorised("h9")).then_nothing()


def test_an_order_with_earlier_unexpected_funds_is_held_like_any_other() -> None:
    scenario = given(authorised("h9")).when(reserved()).then("HoldRequested authorise:1 100")
    scenario.when(voided("h9")).then("Voided h9 100")
    scenario.when(authorised()).then("HoldAuthorised h1 100")


def test_a_release_of_an_unknown_order_waits_until_its_money_is_returned() -> None:
    scenario = given(authorised("h9")).when(release()).then("VoidRequested noted")
    scenario.when(voided("h9")).then("Voided h9 100", "PaymentReleased")


def test_a_second_hold_by_a_frozen_process_is_voided_once() -> None:
    scenario = given(reserved(), authorised("h1")).when(authorised("h2"))
    scenario.then("SuspenseRecorded h2 100 CNY", "VoidRequested void:1 h2 100")
    scenario.when(authorised("h2")).then_nothing()
    scenario.when(settle(60)).then("CaptureRequested capture:1 h1 60")
    scenario.when(voided("h2")).then("Voided h2 100")
    scenario.when(captured()).then("Captured h1 60 released 40")


def test_a_second_hold_after_the_charge_is_voided() -> None:
    scenario = given(reserved(), authorised(), settle(), captured()).when(authorised("h2"))
    scenario.then("SuspenseRecorded h2 100 CNY", "VoidRequested void:1 h2 100")
    scenario.when(hold_gone(VOID, hold="h2")).then("HoldLapsed h2 100")


def test_a_second_sale_is_refunded_in_full() -> None:
    scenario = given(reserved(method="wallet_ok"), sold()).when(sold("h2", 70, 2))
    scenario.then("SuspenseRecorded h2 70 CNY", "RefundRequested refund:1 h2 70")
    scenario.when(refunded(70, 1, "h2")).then("Refunded h2 70")
    scenario.when(settle(100)).then("Captured h1 100 released 0")


def test_a_release_is_complete_only_when_further_holds_have_ended() -> None:
    scenario = given(reserved(), authorised("h1"), authorised("h2")).when(release()).then("VoidRequested void:2 h1 100")
    scenario.when(voided("h1", 2)).then("Voided h1 100")
    scenario.when(voided("h2", 1)).then("Voided h2 100", "PaymentReleased")


def test_a_release_waits_for_a_further_hold_when_its_call_never_arrived() -> None:
    scenario = given(reserved(), authorised("h9", attempt=5), release()).when(absent()).then("HoldDeclined")
    scenario.when(voided("h9")).then("Voided h9 100", "PaymentReleased")


def test_money_after_the_release_is_returned_without_a_second_release() -> None:
    scenario = given(reserved(), release(), absent()).when(authorised())
    scenario.then("SuspenseRecorded h1 100 CNY", "VoidRequested void:1 h1 100")
    scenario.when(voided()).then("Voided h1 100")


def test_a_further_hold_whose_void_is_deferred_is_voided_later() -> None:
    scenario = given(reserved(), authorised(), authorised("h2")).when(retry_later(VOID)).then("CallDeferred void:1")
    scenario.when(tick(), after_ms=1_000).then("CallRetried void:1 h2 100")
    scenario.when(declined(VOID)).then("CallRetried void:2 h2 100", "CallDeferred void:2")
    scenario.when(tick(), after_ms=5_000).when(voided("h2", 2)).then("Voided h2 100")


def test_a_captured_further_hold_is_returned_and_not_reported_as_a_capture() -> None:
    scenario = given(reserved(), authorised(), authorised("h2")).when(captured("h2", 100, operation=VOID))
    scenario.then("HoldLapsed h2 100", "SuspenseRecorded h2 100 CNY", "RefundRequested refund:1 h2 100")
    scenario.when(refunded(100, 1, "h2")).then("Refunded h2 100")
    scenario.when(captured("h2", 100, operation=VOID)).then_nothing()


def test_an_unexpected_capture_is_returned_and_the_order_authorised_anew_at_its_settlement() -> None:
    scenario = given(reserved(), authorised()).when(captured("h1", 100))
    scenario.then("HoldLapsed h1 100", "SuspenseRecorded h1 100 CNY", "RefundRequested refund:1 h1 100")
    scenario.when(captured("h1", 100)).then_nothing()
    scenario.when(settle(60)).then("HoldRequested authorise:2 60")
    scenario.when(refunded(100)).then("Refunded h1 100")
    scenario.when(authorised("h2", 60, 2)).then("HoldAuthorised h2 60", "CaptureRequested capture:1 h2 60")
    scenario.when(captured("h2", 60)).then("Captured h2 60 released 0")
    scenario.when(captured("h1", 100, 7)).then_nothing()


def test_a_capture_reported_after_its_void_is_returned_once() -> None:
    scenario = given(reserved(), authorised(), release(), voided()).when(captured("h1", 100))
    scenario.then("SuspenseRecorded h1 100 CNY", "RefundRequested refund:1 h1 100")
    scenario.when(refunded(100)).then("Refunded h1 100")
    scenario.when(captured("h1", 100)).then_nothing()


def test_a_capture_of_an_unknown_order_is_returned() -> None:
    scenario = given().when(captured("h9", 100)).then("SuspenseRecorded h9 100", "RefundRequested refund:1 h9 100")
    scenario.when(refunded(100, 1, "h9")).then("Refunded h9 100")
    scenario.when(captured("h9", 100)).then_nothing()


def test_other_results_of_unknown_orders_are_ignored() -> None:
    for news in (declined(), voided(), refunded(10), absent(), hold_gone(), retry_later(), declined(CAPTURE)):
        given().when(news).then_nothing()
