"""Old holds are checked at the provider shortly before their group closes. Rules version 2."""

from __future__ import annotations

import pytest
from groupbuy.payments.v1.decisions_pb2 import Operation
from groupbuy.payments.v1.inbox_pb2 import OutcomeNotPossible, PaymentInput

from services.groups.domain.terms import SETTLING_MS as GROUPS_SETTLING_MS
from services.payments.domain.inputs.on_group_event import CHECK_BEFORE_MS, SETTLING_MS
from services.payments.domain.rules_version import CURRENT, FIRST
from tests.scenarios import inputs
from tests.scenarios import payments as s
from tests.scenarios.payments import AUTHORISE, CHECK, START_MS

HOUR_MS = 3_600_000
DEADLINE_MS = 72 * HOUR_MS
#: When the check is due, after the start.
CHECK_MS = DEADLINE_MS - CHECK_BEFORE_MS


def reserved(after_ms: int = 24 * HOUR_MS, method: str = "card_ok") -> PaymentInput:
    """A seat of a group with three days left, stamped with the setting."""
    seat = s.seat(method=method)
    seat.seat_reserved.hold_until_ms = START_MS + DEADLINE_MS + SETTLING_MS
    made = s.group(seat)
    made.check_holds_after_ms = after_ms
    return made


def held(after_ms: int = 24 * HOUR_MS) -> s.PaymentsScenario:
    return s.current(reserved(after_ms), s.authorised())


def checked() -> s.PaymentsScenario:
    """The check of a hold is in flight."""
    return held().when(s.tick(), at=CHECK_MS).then("HoldCheckRequested check:1 h1 100")


def test_the_settling_time_is_that_of_groups() -> None:
    assert SETTLING_MS == GROUPS_SETTLING_MS


def test_an_old_hold_is_checked_before_its_group_closes() -> None:
    scenario = held()
    assert scenario.due_ms == START_MS + CHECK_MS
    scenario.when(s.tick(), at=CHECK_MS - 1).then_nothing()
    scenario.when(s.tick(), at=CHECK_MS).then("HoldCheckRequested check:1 h1 100")
    assert scenario.calls == ["o1:check:1"]
    scenario.when(s.authorised(operation=CHECK)).then("HoldChecked")
    assert scenario.due_ms is None
    scenario.when(s.tick(), at=DEADLINE_MS).then_nothing()
    scenario.when(s.settle()).then("CaptureRequested capture:1 h1 60")


@pytest.mark.parametrize("after_ms", [0, CHECK_MS + 1])
def test_a_hold_that_is_young_then_is_not_checked(after_ms: int) -> None:
    assert held(after_ms).due_ms is None


def test_a_sale_and_a_hold_of_the_first_rules_are_not_checked() -> None:
    sale = s.current(reserved(method="wallet_ok"), s.sold())
    assert sale.due_ms is None
    old = s.PaymentsScenario(FIRST).given(reserved(), s.authorised())
    assert old.due_ms is None


@pytest.mark.parametrize(
    ("result", "ended"), [(s.voided(operation=CHECK), "Voided h1 100"), (s.hold_gone(CHECK), "HoldLapsed h1 100")]
)
def test_a_hold_that_ended_is_told_to_the_group(result: PaymentInput, ended: str) -> None:
    checked().when(result).then("HoldChecked ended", ended, "HoldLost")


def test_a_hold_that_was_captured_is_unexpected_money() -> None:
    scenario = checked().when(s.captured(amount=100, operation=CHECK))
    scenario.then("HoldChecked ended", "HoldLapsed h1 100", "SuspenseRecorded h1 100 CNY", "HoldLost")


@pytest.mark.parametrize("result", [s.declined(CHECK), s.absent(CHECK), s.action_required(operation=CHECK)])
def test_a_check_without_a_usable_answer_ends(result: PaymentInput) -> None:
    checked().when(result).then("HoldChecked")


@pytest.mark.parametrize(
    "result",
    [s.retry_later(CHECK), inputs.provider_result("o1", CHECK, not_possible=OutcomeNotPossible(error="no such key"))],
)
def test_a_check_without_an_answer_is_retried_until_the_group_closes(result: PaymentInput) -> None:
    scenario = checked().when(result).then("CallDeferred check:1")
    assert not scenario.events[0].call_deferred.alarm
    scenario.when(s.tick(), after_ms=HOUR_MS).then("CallRetried check:1 h1 100")
    scenario.when(result)
    scenario.when(s.settle()).then("CaptureRequested capture:1 h1 60")
    # Nothing of the check is left, and its late answer changes nothing.
    assert scenario.due_ms is None
    scenario.when(s.hold_gone(CHECK)).then_nothing()
    scenario.when(s.captured()).then("Captured h1 60 released 40")


@pytest.mark.parametrize("operation", [AUTHORISE, CHECK])
def test_a_release_does_not_wait_for_the_check(operation: Operation.ValueType) -> None:
    scenario = checked().when(s.release()).then("VoidRequested void:1 h1 100")
    scenario.when(s.voided()).then("Voided h1 100", "PaymentReleased")
    scenario.when(s.authorised(operation=operation)).then_nothing()


def test_a_report_of_the_end_during_the_check_is_told_once() -> None:
    scenario = checked().when(s.hold_gone(AUTHORISE)).then("HoldLapsed h1 100", "HoldLost")
    scenario.when(s.hold_gone(CHECK)).then("HoldChecked ended")
    assert scenario.due_ms is None


def test_the_group_is_asked_no_check_after_its_close() -> None:
    scenario = held().when(s.settle(), at=CHECK_MS - 1).then("CaptureRequested capture:1 h1 60")
    scenario.when(s.tick(), at=CHECK_MS).then_nothing()


def test_the_stamp_selects_no_rules() -> None:
    assert PaymentInput.FromString(reserved().SerializeToString()).rules_version != CURRENT
