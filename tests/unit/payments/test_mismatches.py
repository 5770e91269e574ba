"""Amounts, currencies and holds that do not fit are alarms with a defined outcome. Rules version 2.

Nothing of it is a fault of the rules, and the ledger books every decision.
"""

from __future__ import annotations

import pytest
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from services.payments.domain.inputs.on_group_event import MISMATCH
from services.payments.domain.unexpected_funds import SUSPENSE_MS, UNUSABLE
from tests.scenarios import payments as s
from tests.unit.payments.booking import booked

HELD = [s.reserved(), s.authorised()]
DECLINED = ("SuspenseRecorded h1 0 CNY", "CaptureDeclined", "VoidRequested void:1 h1 100")
WRONG = {
    "above the hold": s.settle(101),
    "nothing": s.settle(0),
    "another hold": s.settle(60, hold="h9"),
    "another currency": s.settle(60, currency="JPY"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_settlement_that_does_not_fit_charges_nothing_and_ends_with_an_alarm(wrong: PaymentInput) -> None:
    scenario = s.current(*HELD).when(wrong).then(*DECLINED)
    alarm, declined = scenario.events[0].suspense_recorded, scenario.events[1].capture_declined
    assert (alarm.amount_minor, alarm.reason.startswith(MISMATCH), declined.reason) == (0, True, MISMATCH)
    # Neither a repetition nor a settlement that fits leads to a charge.
    scenario.when(wrong).then_nothing()
    scenario.when(s.settle()).then_nothing()
    scenario.when(s.voided()).then("Voided h1 100")
    assert booked(scenario).balances() == {}


def test_a_settlement_that_does_not_fit_does_not_stop_the_others() -> None:
    scenario = s.current(s.group(s.seat("o1"), s.seat("o2")), s.authorised(), s.authorised("h2", order="o2"))
    scenario.when(s.group(s.settlement(999), s.settlement(70, "o2", "h2")))
    scenario.then(*DECLINED, "o2: CaptureRequested capture:1 h2 70")


def test_a_settlement_of_money_that_is_not_held_yet_releases_it_when_it_is() -> None:
    scenario = s.current(s.reserved(), s.retry_later())
    scenario.when(s.settle(60, hold="")).then("SuspenseRecorded  0 CNY", "VoidRequested noted")
    scenario.when(s.settle(60, hold="")).then_nothing()
    # The call is retried: the provider may hold the money already.
    scenario.when(s.tick(), after_ms=60_000).then("CallRetried authorise:1 100")
    scenario.when(s.authorised()).then("HoldAuthorised h1 100", "VoidRequested void:1 h1 100")
    scenario.when(s.voided()).then("Voided h1 100", "PaymentReleased")


def test_a_settlement_of_an_unknown_order_ends() -> None:
    scenario = s.current().when(s.settle()).then("SuspenseRecorded h1 0 CNY", "CaptureDeclined")
    scenario.when(s.settle()).then_nothing()
    assert scenario.due_ms is None


def test_a_settlement_that_does_not_fit_returns_a_sale() -> None:
    scenario = s.current(s.reserved(method="wallet_ok"), s.sold())
    scenario.when(s.settle(101)).then("SuspenseRecorded h1 0 CNY", "CaptureDeclined", "RefundRequested refund:1 h1 100")


def test_a_second_amount_of_a_settlement_is_an_alarm_and_the_first_one_stands() -> None:
    scenario = s.current(*HELD, s.settle(60)).when(s.settle(61)).then("SuspenseRecorded h1 0 CNY")
    scenario.when(s.captured()).then("Captured h1 60 released 40")


def test_a_hold_in_another_currency_is_declined_and_returned() -> None:
    scenario = s.current(s.reserved(), s.authorised(currency="USD"))
    scenario.then("HoldDeclined", "SuspenseRecorded h1 100 USD")
    scenario.when(s.tick(), after_ms=SUSPENSE_MS).then("VoidRequested void:1 h1 100")
    scenario.when(s.voided()).then("Voided h1 100")
    books = booked(scenario)
    assert (books.balances(), books.balances("USD")) == ({}, {})


def test_a_hold_of_another_amount_is_declined_and_returned() -> None:
    s.current(s.reserved(), s.authorised(amount=90)).then("HoldDeclined", "SuspenseRecorded h1 90 CNY")


def test_a_result_without_a_currency_is_in_that_of_the_payment() -> None:
    s.current(s.reserved(), s.authorised(currency="")).then("HoldAuthorised h1 100")
    late = s.authorised("h2", attempt=2, currency="")
    s.current(*HELD, late).then("SuspenseRecorded h2 100 CNY")


@pytest.mark.parametrize("report", [s.authorised("h2", amount=0, attempt=2), s.authorised("", attempt=2)])
def test_a_report_of_money_that_can_not_be_booked_is_an_alarm(report: PaymentInput) -> None:
    scenario = s.current(*HELD).when(report)
    (event,) = scenario.events
    assert (event.suspense_recorded.amount_minor, event.suspense_recorded.reason.startswith(UNUSABLE)) == (0, True)
    assert booked(scenario).balances() == booked(s.current(*HELD)).balances()
    scenario.when(s.settle()).then("CaptureRequested capture:1 h1 60")


def test_a_capture_in_another_currency_is_returned_and_the_member_charged_anew() -> None:
    scenario = s.current(*HELD, s.settle())
    wrong = s.captured()
    wrong.outcome.captured.currency = "USD"
    scenario.when(wrong)
    scenario.then("HoldLapsed h1 100", "SuspenseRecorded h1 60 USD", "HoldRequested authorise:2 60")
    scenario.when(s.authorised("h2", amount=60, attempt=2)).then(
        "HoldAuthorised h2 60", "CaptureRequested capture:2 h2 60"
    )
    scenario.when(s.captured("h2", attempt=2)).then("Captured h2 60 released 0")
    books = booked(scenario)
    assert (books.balances()["merchant"], books.balances("USD")["suspense"]) == (60, 60)


def test_a_refund_in_another_currency_stays_pending_with_an_alarm() -> None:
    scenario = s.current(*HELD, s.settle(), s.captured(), s.refund("r1", 60))
    wrong = s.refunded(60)
    wrong.outcome.refunded.currency = "USD"
    scenario.when(wrong).then("CallDeferred refund:1")
    assert scenario.events[0].call_deferred.alarm
