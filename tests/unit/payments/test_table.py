"""The documented table of transitions is true. Method: a payment in every status receives every input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from groupbuy.payments.v1.decisions_pb2 import Operation
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from services.payments.domain.state.status import Status
from services.payments.domain.transitions import INPUTS, STATES, events_after, table
from tests.scenarios import payments as s
from tests.scenarios.payments import AUTHORISE, CAPTURE, REFUND, SALE, VOID

CARD = [s.reserved()]
HELD = [*CARD, s.authorised()]
CHARGED = [*HELD, s.settle(), s.captured()]
WALLET = [s.reserved(method="wallet_ok")]
TAKEN = [*WALLET, s.sold()]

#: Inputs that lead to a status, and the last call in it.
REACHED: dict[Status, tuple[list[PaymentInput], Operation.ValueType, int]] = {
    Status.UNKNOWN: ([], AUTHORISE, 1),
    Status.REQUESTED: (CARD, AUTHORISE, 1),
    Status.DEFERRED: ([*CARD, s.retry_later()], AUTHORISE, 1),
    Status.ACTION_REQUIRED: ([*CARD, s.action_required()], AUTHORISE, 1),
    Status.AUTHORISED: (HELD, AUTHORISE, 1),
    Status.LAPSED: ([*HELD, s.hold_gone(AUTHORISE)], AUTHORISE, 1),
    Status.CAPTURING: ([*HELD, s.settle()], CAPTURE, 1),
    Status.RENEWING: ([*HELD, s.settle(), s.hold_gone()], AUTHORISE, 2),
    Status.CAPTURED: (CHARGED, CAPTURE, 1),
    Status.REFUNDING: ([*CHARGED, s.refund()], REFUND, 1),
    Status.CAPTURE_DECLINED: ([*HELD, s.settle(), s.declined(CAPTURE)], VOID, 1),
    Status.HOLD_DECLINED: ([*CARD, s.declined()], AUTHORISE, 1),
    Status.RELEASING: ([*CARD, s.release()], AUTHORISE, 1),
    Status.VOIDING: ([*HELD, s.release()], VOID, 1),
    Status.RETURNING: ([*CHARGED, s.release()], REFUND, 1),
    Status.RELEASED: ([*HELD, s.release(), s.voided()], VOID, 1),
    Status.SALE_REQUESTED: (WALLET, SALE, 1),
    Status.SALE_ACTION_REQUIRED: ([*WALLET, s.action_required(operation=SALE)], SALE, 1),
    Status.SALE_TAKEN: (TAKEN, SALE, 1),
    Status.SALE_SETTLING: ([*TAKEN, s.settle()], REFUND, 1),
    Status.SALE_RETURNING: ([*TAKEN, s.release()], REFUND, 1),
    Status.OWED: ([*TAKEN, s.release(), s.declined(REFUND)], REFUND, 1),
}


def input_in(status: Status, name: str) -> PaymentInput:
    """An input as it arrives in a status; a result is that of the last call."""
    _, operation, attempt = REACHED[status]
    hold, amount = ("h2", 60) if status is Status.RENEWING else ("h1", 100)
    method = "wallet_ok" if STATES[status].sale else "card_ok"
    made: dict[str, Callable[[], PaymentInput]] = {
        "SeatReserved": lambda: s.reserved(method=method),
        "SettlementRequested": s.settle,
        "ReleaseRequested": s.release,
        "RefundCommand": lambda: s.refund("r2", 20),
        "Tick": s.tick,
        "Authorised": lambda: s.authorised(hold, amount, attempt, operation=operation),
        "ActionRequired": lambda: s.action_required(hold, operation=operation, attempt=attempt),
        "Declined": lambda: s.declined(operation, attempt),
        "Captured": lambda: s.captured(hold, 100 if STATES[status].sale else 60, attempt, operation),
        "Voided": lambda: s.voided(hold, attempt, operation),
        "Refunded": lambda: s.refunded(100 if status is Status.OWED else 0, attempt, hold, operation=operation),
        "Absent": lambda: s.absent(operation, attempt),
        "HoldGone": lambda: s.hold_gone(operation, attempt, hold),
        "RetryLater": lambda: s.retry_later(operation, attempt),
        "SecondHold": lambda: s.authorised("h9", 100, 9, operation=SALE if STATES[status].sale else AUTHORISE),
    }
    assert set(made) == set(INPUTS)
    return made[name]()


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("status", STATES)
def test_an_input_leads_to_the_documented_events(status: Status, name: str) -> None:
    scenario = s.current(*REACHED[status][0])
    scenario.when(input_in(status, name), after_ms=400_000 if name == "Tick" else 10)
    assert tuple(s.name_of(event) for event in scenario.events) == events_after(status, name)


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("status", STATES)
def test_a_duplicate_input_moves_no_money_a_second_time(status: Status, name: str) -> None:
    scenario = s.current(*REACHED[status][0])
    scenario.when(input_in(status, name))
    requested = set(scenario.calls)
    reported = {s.describe(event) for event in scenario.events}
    scenario.when(input_in(status, name))
    facts = {s.describe(event) for event in scenario.events if s.name_of(event) in FACTS}
    assert not facts & reported
    assert not requested & set(scenario.calls)


#: Events about money that moved, or about the end of an order.
FACTS = {
    "HoldAuthorised",
    "HoldDeclined",
    "Captured",
    "CaptureDeclined",
    "Voided",
    "HoldLapsed",
    "Refunded",
    "PaymentReleased",
    "SuspenseRecorded",
}


def test_the_table_has_every_status_and_a_line_for_each_input_that_changes_something() -> None:
    assert set(REACHED) == set(STATES) == set(Status)
    lines = table().splitlines()
    changing = sum(bool(events_after(status, name)) for status in STATES for name in INPUTS)
    assert len(lines) == 2 + len(STATES) + changing
    assert "| | HoldGone | HoldLapsed, HoldRequested |" in lines
