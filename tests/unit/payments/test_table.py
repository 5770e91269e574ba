"""Goal: the printed table of transitions is the truth. Method: every state, reached by inputs, is given every input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from groupbuy.payments.v1.decisions_pb2 import Operation
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from services.payments.domain.transitions import INPUTS, STATES, events_after, table
from tests.unit.payments import stories as s
from tests.unit.payments.stories import AUTHORISE, CAPTURE, REFUND, SALE, VOID

CARD = [s.reserved()]
HELD = [*CARD, s.authorised()]
CHARGED = [*HELD, s.settle(), s.captured()]
WALLET = [s.reserved(method="wallet_ok")]
TAKEN = [*WALLET, s.sold()]

#: How a state is reached, and the call that was made last in it.
REACHED: dict[str, tuple[list[PaymentInput], Operation.ValueType, int]] = {
    "UNKNOWN": ([], AUTHORISE, 1),
    "REQUESTED": (CARD, AUTHORISE, 1),
    "WAITING": ([*CARD, s.later()], AUTHORISE, 1),
    "CONFIRMING": ([*CARD, s.action()], AUTHORISE, 1),
    "HELD": (HELD, AUTHORISE, 1),
    "LAPSED": ([*HELD, s.gone(AUTHORISE)], AUTHORISE, 1),
    "CAPTURING": ([*HELD, s.settle()], CAPTURE, 1),
    "RENEWING": ([*HELD, s.settle(), s.gone()], AUTHORISE, 2),
    "CAPTURED": (CHARGED, CAPTURE, 1),
    "REFUNDING": ([*CHARGED, s.refund()], REFUND, 1),
    "FAILING": ([*HELD, s.settle(), s.declined(CAPTURE)], VOID, 1),
    "DECLINED": ([*CARD, s.declined()], AUTHORISE, 1),
    "RELEASING": ([*CARD, s.release()], AUTHORISE, 1),
    "VOIDING": ([*HELD, s.release()], VOID, 1),
    "RETURNING": ([*CHARGED, s.release()], REFUND, 1),
    "RELEASED": ([*HELD, s.release(), s.voided()], VOID, 1),
    "SALE_REQUESTED": (WALLET, SALE, 1),
    "SALE_CONFIRMING": ([*WALLET, s.action(operation=SALE)], SALE, 1),
    "TAKEN": (TAKEN, SALE, 1),
    "SETTLING": ([*TAKEN, s.settle()], REFUND, 1),
    "SALE_RETURNING": ([*TAKEN, s.release()], REFUND, 1),
}


def told(state: str, name: str) -> PaymentInput:
    """An input as it would come in a state; an answer is about the call that was made last."""
    _, operation, attempt = REACHED[state]
    hold, amount = ("h2", 60) if state == "RENEWING" else ("h1", 100)
    method = "wallet_ok" if STATES[state].sale else "card_ok"
    made: dict[str, Callable[[], PaymentInput]] = {
        "SeatReserved": lambda: s.reserved(method=method),
        "SettlementRequested": s.settle,
        "ReleaseRequested": s.release,
        "RefundCommand": lambda: s.refund("r2", 20),
        "Tick": s.tick,
        "Authorised": lambda: s.authorised(hold, amount, attempt, operation=operation),
        "ActionRequired": lambda: s.action(hold, operation=operation, attempt=attempt),
        "Declined": lambda: s.declined(operation, attempt),
        "Captured": lambda: s.captured(hold, 100 if STATES[state].sale else 60, attempt, operation),
        "Voided": lambda: s.voided(hold, attempt, operation),
        "Refunded": lambda: s.refunded(0, attempt, hold, operation=operation),
        "Absent": lambda: s.absent(operation, attempt),
        "HoldGone": lambda: s.gone(operation, attempt, hold),
        "RetryLater": lambda: s.later(operation, attempt),
        "SecondHold": lambda: s.authorised("h9", 100, 9, operation=SALE if STATES[state].sale else AUTHORISE),
    }
    assert set(made) == set(INPUTS)
    return made[name]()


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("state", STATES)
def test_an_input_leads_to_what_the_table_says(state: str, name: str) -> None:
    story = s.given(*REACHED[state][0])
    story.when(told(state, name), after_ms=400_000 if name == "Tick" else 10)
    assert tuple(s.name_of(event) for event in story.events) == events_after(state, name)


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("state", STATES)
def test_a_repeated_input_never_moves_money_a_second_time(state: str, name: str) -> None:
    story = s.given(*REACHED[state][0])
    story.when(told(state, name))
    asked = set(story.calls)
    told_of = {s.text_of(event) for event in story.events}
    story.when(told(state, name))
    facts = {s.text_of(event) for event in story.events if s.name_of(event) in FACTS}
    assert not facts & told_of
    assert not asked & set(story.calls)


#: Events that stand for money that moved, or for the last word on an order.
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


def test_the_table_names_every_state_and_prints_one_line_for_each_input_that_changes_something() -> None:
    assert set(REACHED) == set(STATES)
    lines = table().splitlines()
    changing = sum(bool(events_after(state, name)) for state in STATES for name in INPUTS)
    assert len(lines) == 2 + len(STATES) + changing
    assert "| | HoldGone | HoldLapsed, HoldRequested |" in lines
