"""Refund commands: at most what was captured, pending refunds included, and each id once."""

from __future__ import annotations

import pytest
from groupbuy.payments.v1.payments_pb2 import PAYMENT_STATE_PARTLY_REFUNDED, PAYMENT_STATE_REFUNDED

from services.payments.api.mapping import payment_of, refund_of
from services.payments.domain.state.model import RefundStatus
from tests.scenarios.payments import (
    REFUND,
    PaymentsScenario,
    absent,
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
    tick,
)


def charged(amount: int = 100) -> PaymentsScenario:
    return given(reserved(), authorised(), settle(amount), captured(amount=amount))


def test_a_full_refund_needs_no_amount() -> None:
    scenario = charged().when(refund("r1")).then("RefundRequested refund:1 h1 100 r1")
    body = scenario.events[0].refund_requested
    assert (body.request_sha256, body.call.payment_method) == (b"digest", "card_ok")
    assert scenario.calls == ["o1:refund:1"]
    scenario.when(refunded(100)).then("Refunded h1 100 r1")


def test_two_concurrent_refunds_of_60_from_100_refund_60() -> None:
    scenario = charged().when(refund("r1", 60)).then("RefundRequested refund:1 h1 60 r1")
    scenario.when(refund("r2", 60)).then("RefundDeclined r2 60")
    assert scenario.events[0].refund_declined.request_sha256 == b"digest"
    assert "40" in scenario.events[0].refund_declined.reason
    scenario.when(refunded(60)).then("Refunded h1 60 r1")


def test_concurrent_refunds_are_distinguished_by_their_attempts() -> None:
    scenario = charged().when(refund("r1", 30)).when(refund("r2", 30))
    assert scenario.calls == ["o1:refund:2"]
    scenario.when(refunded(30, 2)).then("Refunded h1 30 r2")
    scenario.when(refunded(30, 1)).then("Refunded h1 30 r1")
    scenario.when(refunded(30, 2)).then_nothing()
    scenario.when(refund("r3")).then("RefundRequested refund:3 h1 40 r3")


def test_a_duplicate_refund_command_changes_nothing() -> None:
    scenario = charged().when(refund("r1", 60)).when(refund("r1", 60)).then_nothing()
    scenario.when(refund("r1", 10, digest=b"other")).then_nothing()
    scenario.when(refunded(60)).when(refund("r1", 60)).then_nothing()
    found = refund_of(scenario.state, "o1", "r1")
    assert found is not None
    assert (found.status, found.amount, found.request_sha256) == (RefundStatus.SUCCEEDED, 60, b"digest")


def test_a_refund_that_the_provider_declines_frees_its_amount() -> None:
    scenario = charged().when(refund("r1", 60)).when(declined(REFUND, reason="closed")).then("RefundDeclined r1 60")
    assert scenario.events[0].refund_declined.request_sha256 == b"digest"
    found = refund_of(scenario.state, "o1", "r1")
    assert found is not None
    assert (found.status, found.reason) == (RefundStatus.DECLINED, "closed")
    scenario.when(refund("r1", 60)).then_nothing()
    scenario.when(refund("r2", 100)).then("RefundRequested refund:2 h1 100 r2")


def test_a_refund_that_succeeds_after_its_decline_is_booked() -> None:
    scenario = charged().when(refund("r1", 60)).when(declined(REFUND)).when(refunded(60)).then("Refunded h1 60 r1")
    scenario.when(refunded(60)).then_nothing()
    scenario.when(refund("r2", 60)).then("RefundDeclined r2 60")


def test_a_refund_with_an_unknown_result_is_retried_under_its_own_key() -> None:
    scenario = charged().when(refund("r1", 60)).when(retry_later(REFUND)).when(tick(), after_ms=1_000)
    scenario.then("CallRetried refund:1 h1 60 r1")


def test_a_refund_proven_absent_is_made_under_the_next_attempt_and_booked_once() -> None:
    scenario = charged().when(refund("r1", 60)).when(absent(REFUND)).then("CallRetried refund:2 h1 60 r1")
    scenario.when(refunded(60, 2)).then("Refunded h1 60 r1")
    scenario.when(refunded(60, 1)).then_nothing()


def test_a_refund_wrongly_proven_absent_is_booked_once() -> None:
    scenario = charged().when(refund("r1", 60)).when(absent(REFUND)).when(refunded(60, 1)).then("Refunded h1 60 r1")
    scenario.when(refunded(60, 1)).then_nothing()
    scenario.when(refunded(60, 2)).then_nothing()


def test_a_refund_from_an_ended_payment_is_declined() -> None:
    charged().when(refund("r1", 60)).when(hold_gone(REFUND)).then("RefundDeclined r1 60")


def test_an_unexpected_refund_is_left_to_reconciliation() -> None:
    charged().when(refunded(60, 7)).then_nothing()


@pytest.mark.parametrize(
    ("scenario", "amount"),
    [
        (given(), 10),
        (given(reserved()), 10),
        (given(reserved(), authorised()), 10),
        (given(reserved(), authorised(), settle()), 10),
        (given(reserved(), declined()), 10),
        (given(release()), 10),
        (charged(), 101),
        (charged(), -1),
        (charged(), 2**63 - 1),
    ],
    ids=["unknown", "requested", "held", "capturing", "declined", "released", "above", "negative", "the largest"],
)
def test_a_refund_without_captured_money_is_declined_and_remembered(scenario: PaymentsScenario, amount: int) -> None:
    scenario.when(refund("r1", amount)).then(f"RefundDeclined r1 {max(amount, 0)}")
    assert scenario.events[0].refund_declined.reason
    scenario.when(refund("r1", amount)).then_nothing()


def test_a_refund_with_nothing_left_is_declined() -> None:
    charged().when(refund("r1")).when(refunded(100)).when(refund("r2")).then("RefundDeclined r2 0")


def test_a_declined_refund_of_an_unknown_order_does_not_prevent_its_hold() -> None:
    given(refund()).when(reserved()).then("HoldRequested authorise:1 100")


def test_a_refund_without_an_id_faults() -> None:
    charged().when(refund("")).then("Faulted Impossible")


def test_the_api_shows_partial_and_full_refunds() -> None:
    scenario = charged().when(refund("r1", 60)).when(refunded(60))
    seen = payment_of(scenario.state, "o1")
    assert seen is not None
    assert (seen.state, seen.captured, seen.refunded) == (PAYMENT_STATE_PARTLY_REFUNDED, 100, 60)
    scenario.when(refund("r2")).when(refunded(40, 2))
    seen = payment_of(scenario.state, "o1")
    assert seen is not None
    assert (seen.state, seen.refunded) == (PAYMENT_STATE_REFUNDED, 100)
