"""Wallets without delayed capture: paid in full at the join, the difference refunded at the settlement."""

from __future__ import annotations

from services.payments.api.mapping import payment_of
from tests.scenarios.payments import (
    REFUND,
    SALE,
    PaymentsScenario,
    absent,
    action_required,
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
)


def taken() -> PaymentsScenario:
    return given(reserved(method="wallet_ok"), sold())


def test_the_difference_is_refunded_before_the_order_counts_as_charged() -> None:
    scenario = taken().when(settle(60)).then("RefundRequested refund:1 h1 40")
    assert scenario.calls == ["o1:refund:1"]
    scenario.when(refunded(40)).then("Refunded h1 40", "Captured h1 60 released 0")
    scenario.when(refunded(40)).then_nothing()
    scenario.when(settle(60)).then_nothing()


def test_a_sale_at_the_exact_price_is_charged_without_a_call() -> None:
    scenario = taken().when(settle(100)).then("Captured h1 100 released 0")
    assert scenario.calls == []
    scenario.when(settle(100)).then_nothing()


def test_a_difference_whose_refund_is_declined_is_owed_and_the_order_charged() -> None:
    scenario = taken().when(settle(60)).when(declined(REFUND)).then("RefundDeclined 40", "Captured h1 60 released 0")
    seen = payment_of(scenario.state, "o1")
    assert seen is not None
    assert (seen.captured, seen.owed) == (60, 40)


def test_an_owed_difference_that_is_refunded_after_all_is_booked_once() -> None:
    scenario = taken().when(settle(60)).when(declined(REFUND)).when(refunded(40)).then("Refunded h1 40")
    scenario.when(refunded(40)).then_nothing()
    seen = payment_of(scenario.state, "o1")
    assert seen is not None
    assert (seen.captured, seen.refunded, seen.owed) == (60, 0, 0)


def test_a_refund_of_the_difference_with_an_unknown_result_is_retried_under_its_own_key() -> None:
    scenario = taken().when(settle(60)).when(retry_later(REFUND)).then("CallDeferred refund:1")
    scenario.when(tick(), after_ms=1_000).then("CallRetried refund:1 h1 40")
    scenario.when(refunded(40)).then("Refunded h1 40", "Captured h1 60 released 0")


def test_an_outage_of_a_day_between_a_refund_and_its_result_refunds_once() -> None:
    scenario = taken().when(settle(60)).when(retry_later(REFUND))
    keys = set()
    for _ in range(300):
        scenario.when(tick(), after_ms=300_000)
        keys.update(scenario.calls)
        scenario.when(retry_later(REFUND))
    assert keys == {"o1:refund:1"}
    scenario.when(refunded(40)).then("Refunded h1 40", "Captured h1 60 released 0")


def test_a_refund_of_the_difference_proven_absent_is_made_under_the_next_attempt() -> None:
    scenario = taken().when(settle(60)).when(absent(REFUND)).then("CallRetried refund:2 h1 40")
    scenario.when(refunded(40, 2)).then("Refunded h1 40", "Captured h1 60 released 0")


def test_a_refund_of_too_little_is_completed() -> None:
    scenario = taken().when(settle(60)).when(refunded(30)).then("Refunded h1 30", "RefundRequested refund:2 h1 10")
    scenario.when(refunded(10, 2)).then("Refunded h1 10", "Captured h1 60 released 0")


def test_a_release_during_the_refund_of_the_difference_refunds_the_rest() -> None:
    scenario = taken().when(settle(60)).when(release()).then("VoidRequested noted")
    scenario.when(refunded(40)).then("Refunded h1 40", "RefundRequested refund:2 h1 60")
    scenario.when(refunded(60, 2)).then("Refunded h1 60", "PaymentReleased")


def test_a_prepayment_is_confirmed_by_the_shopper_and_then_taken() -> None:
    scenario = given(reserved(method="wallet_ok")).when(action_required(operation=SALE))
    scenario.then("ActionRequired h1 https://confirm", "CallDeferred sale:1")
    scenario.when(sold()).then("HoldAuthorised h1 100")
    scenario.when(sold()).then_nothing()


def test_a_sale_reported_as_captured_is_taken() -> None:
    scenario = (
        given(reserved(method="wallet_ok")).when(captured(amount=100, operation=SALE)).then("HoldAuthorised h1 100")
    )
    scenario.when(captured(amount=100, operation=SALE)).then_nothing()


def test_a_prepayment_that_was_never_paid_is_declined() -> None:
    given(reserved(method="wallet_ok"), action_required(operation=SALE)).when(hold_gone(SALE)).then("HoldDeclined")


def test_a_sale_of_another_amount_is_refunded() -> None:
    scenario = given(reserved(method="wallet_ok")).when(sold(amount=90))
    scenario.then("HoldDeclined", "SuspenseRecorded h1 90 CNY", "RefundRequested refund:1 h1 90")
    scenario.when(refunded(90)).then("Refunded h1 90")


def test_a_charged_sale_can_be_refunded_by_command_up_to_its_price() -> None:
    scenario = taken().when(settle(60)).when(refunded(40)).when(refund("r1", 61)).then("RefundDeclined r1 61")
    scenario.when(refund("r2")).then("RefundRequested refund:2 h1 60 r2")
    scenario.when(refunded(60, 2)).then("Refunded h1 60 r2")


def test_of_two_refunds_of_one_amount_the_declined_one_is_identified() -> None:
    scenario = (
        taken().when(sold("h2", attempt=2)).then("SuspenseRecorded h2 100 CNY", "RefundRequested refund:1 h2 100")
    )
    scenario.when(release()).then("RefundRequested refund:2 h1 100")
    # The second is declined. The event names no attempt and ends the first, which is retried, and is emitted again.
    scenario.when(declined(REFUND, 2)).then("RefundDeclined 100", "CallRetried refund:1 h2 100", "RefundDeclined 100")
    scenario.when(declined(REFUND, 2)).then_nothing()
    scenario.when(refunded(100, 1, "h2")).then("Refunded h2 100", "PaymentReleased")
    seen = payment_of(scenario.state, "o1")
    assert seen is not None
    assert seen.owed == 100
