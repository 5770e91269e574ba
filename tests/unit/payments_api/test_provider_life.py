"""The API shows what is owed and why, disputes, suspense, and refunds by hand. Method: messages of scenarios."""

from __future__ import annotations

from groupbuy.payments.v1 import payments_pb2 as pb
from groupbuy.payments.v1.inbox_pb2 import DISPUTE_STATE_LOST

from services.payments.api.mapping import payment_message, payment_of, timestamp
from services.payments.domain.owed import PAUSES_MS
from tests.scenarios import payments as s
from tests.scenarios.payments import REFUND

NAME = "groups/g/orders/o1/payment"
CHARGED = [s.reserved(), s.authorised(), s.settle(), s.captured()]


def message(scenario: s.PaymentsScenario) -> pb.Payment:
    found = payment_of(scenario.state, "o1")
    assert found is not None
    return payment_message(NAME, found, 7, 1_000)


def test_an_owed_amount_has_its_reason_and_its_next_attempt() -> None:
    scenario = s.current(s.reserved(method="wallet_ok"), s.sold(), s.release(), s.declined(REFUND, 1, "card expired"))
    shown = message(scenario)
    assert shown.owed_minor == 100
    (part,) = shown.owed
    assert (part.amount_minor, part.reason, part.hold, part.alarm) == (100, "card expired", "h1", False)
    assert part.next_attempt_time == timestamp(scenario.now_ms + PAUSES_MS[0])


def test_a_settled_order_shows_what_was_really_kept() -> None:
    shown = message(s.current(*CHARGED, s.external(REFUND, 20)))
    assert (shown.captured_minor, shown.refunded_minor, shown.external_refunds_minor) == (60, 20, 20)


def test_a_dispute_is_shown_with_its_end() -> None:
    scenario = s.current(*CHARGED, s.dispute(evidence_due_ms=5_000))
    (dispute,) = message(scenario).disputes
    assert (dispute.dispute, dispute.state, dispute.amount_minor) == ("dp", pb.PAYMENT_DISPUTE_STATE_OPEN, 60)
    assert dispute.evidence_due_time == timestamp(5_000)
    lost = message(scenario.when(s.dispute(DISPUTE_STATE_LOST)))
    assert (lost.disputes[0].state, lost.disputed_minor) == (pb.PAYMENT_DISPUTE_STATE_LOST, 60)


def test_a_reversed_refund_and_the_end_of_a_hold_are_shown() -> None:
    assert message(s.current(s.reserved(), s.authorised())).capture_before_time == timestamp(s.START_MS * 2)
    shown = message(s.current(*CHARGED, s.refund("r1", 60), s.refunded(60), s.reversed_refund(60)))
    assert (shown.refunded_minor, shown.owed_minor, shown.owed[0].refund) == (0, 60, "r1")


def test_funds_in_suspense_are_shown() -> None:
    again = s.authorised("h2", 70, attempt=9)
    assert message(s.current(s.reserved(), s.authorised(), again)).suspense_minor == 70
