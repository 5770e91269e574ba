"""A member is charged the settlement amount once, from an open hold, with exactly one outcome."""

from __future__ import annotations

import pytest

from services.payments.domain.inputs.on_timer import MAX_RENEWAL_POLLS
from tests.scenarios.payments import (
    AUTHORISE,
    CAPTURE,
    VOID,
    PaymentsScenario,
    absent,
    action_required,
    authorised,
    captured,
    declined,
    given,
    group,
    hold_gone,
    refunded,
    reserved,
    retry_later,
    seat,
    settle,
    settlement,
    tick,
    voided,
)


def held() -> PaymentsScenario:
    return given(reserved(), authorised())


def test_a_member_is_charged_and_the_rest_of_the_hold_is_released() -> None:
    scenario = held().when(settle(60)).then("CaptureRequested capture:1 h1 60")
    assert scenario.calls == ["o1:capture:1"]
    scenario.when(captured(amount=60)).then("Captured h1 60 released 40")


def test_a_member_is_charged_the_whole_hold() -> None:
    held().when(settle(100)).when(captured(amount=100)).then("Captured h1 100 released 0")


def test_every_member_of_a_group_is_charged_in_one_decision() -> None:
    scenario = given(group(seat("o1"), seat("o2")), authorised("h1"), authorised("h2", order="o2"))
    scenario.when(group(settlement(60), settlement(70, "o2", "h2")))
    scenario.then("CaptureRequested capture:1 h1 60", "o2: CaptureRequested capture:1 h2 70")


def test_a_duplicate_settlement_is_captured_once() -> None:
    scenario = held().when(settle()).when(settle()).then_nothing()
    scenario.when(captured()).when(settle()).then_nothing()


def test_duplicate_reports_of_a_capture_are_booked_once() -> None:
    scenario = held().when(settle()).when(captured())
    for _ in range(10):
        scenario.when(captured()).then_nothing()


@pytest.mark.parametrize(
    "wrong",
    [settle(101), settle(0), settle(60, hold="h9"), settle(60, currency="JPY"), settle(60, order="o9")],
    ids=["above the hold", "nothing", "another hold", "another currency", "an unknown order"],
)
def test_an_impossible_settlement_faults_and_requests_nothing(wrong: object) -> None:
    scenario = held().when(wrong).then("Faulted Impossible")  # type: ignore[arg-type]
    assert scenario.calls == []
    scenario.when(settle(60)).then("CaptureRequested capture:1 h1 60")


def test_a_settlement_can_not_change_its_amount() -> None:
    held().when(settle(60)).when(settle(61)).then("Faulted Impossible")


def test_an_order_is_not_charged_before_its_money_is_held() -> None:
    given(reserved()).when(settle(60, hold="")).then("Faulted Impossible")


def test_an_impossible_settlement_does_not_stop_the_others() -> None:
    scenario = given(group(seat("o1"), seat("o2")), authorised("h1"), authorised("h2", order="o2"))
    scenario.when(group(settlement(999), settlement(70, "o2", "h2")))
    scenario.then("o2: CaptureRequested capture:1 h2 70", "Faulted Impossible")


# Refused ------------------------------------------------------------------------------------------------------------


def test_a_declined_capture_ends_with_nothing_held() -> None:
    scenario = held().when(settle()).when(declined(CAPTURE, reason="fraud"))
    scenario.then("CaptureDeclined", "VoidRequested void:1 h1 100")
    body = scenario.events[0].capture_declined
    assert (body.hold, body.reason) == ("h1", "fraud")
    scenario.when(voided()).then("Voided h1 100")
    scenario.when(declined(CAPTURE)).then_nothing()


def test_a_declined_capture_of_a_lapsed_hold_needs_no_void() -> None:
    held().when(settle()).when(declined(CAPTURE)).when(hold_gone(VOID)).then("HoldLapsed h1 100")


def test_a_capture_that_succeeds_after_its_decline_is_returned() -> None:
    scenario = held().when(settle()).when(declined(CAPTURE)).when(captured(amount=60, operation=VOID))
    scenario.then("HoldLapsed h1 100", "SuspenseRecorded h1 60 CNY", "RefundRequested refund:1 h1 60")
    scenario.when(refunded(60)).then("Refunded h1 60")
    scenario.when(captured()).then_nothing()


# Lapsed -------------------------------------------------------------------------------------------------------------


def test_a_hold_that_lapsed_before_its_capture_is_renewed_once_at_the_captures_amount() -> None:
    scenario = held().when(settle(60)).when(hold_gone()).then("HoldLapsed h1 100", "HoldRequested authorise:2 60")
    call = scenario.events[1].hold_requested.call
    assert (call.customer, call.payment_method, call.currency) == ("customer of o1", "card_ok", "CNY")
    scenario.when(authorised("h2", 60, 2)).then("HoldAuthorised h2 60", "CaptureRequested capture:2 h2 60")
    scenario.when(captured("h2", 60, 2)).then("Captured h2 60 released 0")


def test_a_declined_renewal_declines_the_capture() -> None:
    scenario = held().when(settle()).when(hold_gone()).when(declined(attempt=2)).then("CaptureDeclined")
    assert scenario.events[0].capture_declined.hold == "h1"


def test_a_renewed_hold_that_lapses_declines_the_capture() -> None:
    scenario = held().when(settle()).when(hold_gone()).when(authorised("h2", 60, 2)).when(hold_gone(CAPTURE, 2, "h2"))
    scenario.then("HoldLapsed h2 60", "CaptureDeclined")


def test_a_hold_that_lapsed_while_the_group_formed_is_renewed_at_its_settlement() -> None:
    scenario = held().when(hold_gone(AUTHORISE)).then("HoldLapsed h1 100")
    scenario.when(settle(60)).then("HoldRequested authorise:2 60")
    scenario.when(authorised("h2", 60, 2)).then("HoldAuthorised h2 60", "CaptureRequested capture:1 h2 60")


def test_a_hold_that_was_voided_at_the_provider_is_renewed_at_its_settlement() -> None:
    scenario = held().when(voided(operation=AUTHORISE)).then("Voided h1 100")
    scenario.when(settle(60)).then("HoldRequested authorise:2 60")


def test_a_notification_that_a_hold_expired_does_not_outrank_its_captures_success() -> None:
    scenario = held().when(settle()).when(hold_gone(AUTHORISE)).then_nothing()
    scenario.when(captured()).then("Captured h1 60 released 40")
    scenario.when(hold_gone(AUTHORISE)).then_nothing()


def test_a_capture_reported_as_lapsed_and_then_as_successful_is_charged_once() -> None:
    scenario = held().when(settle()).when(hold_gone())
    scenario.when(captured()).then("SuspenseRecorded h1 60 CNY", "RefundRequested refund:1 h1 60")
    scenario.when(authorised("h2", 60, 2)).then("HoldAuthorised h2 60", "CaptureRequested capture:2 h2 60")
    scenario.when(captured("h2", 60, 2)).then("Captured h2 60 released 0")
    scenario.when(refunded(60)).then("Refunded h1 60")


def test_a_renewal_that_is_not_confirmed_declines_the_capture_in_bounded_time() -> None:
    scenario = held().when(settle()).when(hold_gone()).when(action_required("h2", attempt=2))
    for _ in range(MAX_RENEWAL_POLLS - 1):
        scenario.when(tick(), after_ms=60_000).when(action_required("h2", attempt=2)).then("CallDeferred authorise:2")
    scenario.when(tick(), after_ms=60_000).when(action_required("h2", attempt=2)).then(
        "VoidRequested void:1 h2", "CaptureDeclined"
    )
    scenario.when(authorised("h2", 60, 2)).then_nothing()
    scenario.when(voided("h2")).then("Voided h2 0")
    assert scenario.domain.due(scenario.state) is None


# Unknown results ----------------------------------------------------------------------------------------------------


def test_a_capture_with_an_unknown_result_is_retried_under_its_own_key() -> None:
    scenario = held().when(settle()).when(retry_later(CAPTURE)).then("CallDeferred capture:1")
    scenario.when(tick(), after_ms=1_000).then("CallRetried capture:1 h1 60")
    assert scenario.calls == ["o1:capture:1"]
    scenario.when(captured()).then("Captured h1 60 released 40")


def test_a_capture_proven_absent_is_made_under_the_next_attempt() -> None:
    scenario = held().when(settle()).when(absent(CAPTURE)).then("CallRetried capture:2 h1 60")
    scenario.when(captured(attempt=2)).then("Captured h1 60 released 40")
    scenario.when(captured(attempt=1)).then_nothing()


def test_a_capture_wrongly_proven_absent_is_booked_once() -> None:
    scenario = held().when(settle()).when(absent(CAPTURE)).when(captured(attempt=1)).then("Captured h1 60 released 40")
    scenario.when(captured(attempt=2)).then_nothing()
    scenario.when(declined(CAPTURE, 2)).then_nothing()


def test_money_taken_beyond_the_requested_amount_is_returned() -> None:
    scenario = held().when(settle(60)).when(captured(amount=75))
    scenario.then("Captured h1 60 released 40", "SuspenseRecorded h1 15 CNY", "RefundRequested refund:1 h1 15")
    scenario.when(refunded(15)).then("Refunded h1 15")


def test_a_capture_of_too_little_is_booked_with_an_alarm() -> None:
    held().when(settle(60)).when(captured(amount=50)).then("Captured h1 50 released 50", "SuspenseRecorded h1 0 CNY")
