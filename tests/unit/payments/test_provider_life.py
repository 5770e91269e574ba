"""What a provider does by itself: refused and reversed refunds, disputes, and persons in its dashboard.

Rules version 2. A scenario's text leaves out RulesSelected.
"""

from __future__ import annotations

import pytest
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.payments.v1.decisions_pb2 import FailMember, KeepSuspense, PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import (
    DISPUTE_STATE_LOST,
    DISPUTE_STATE_WON,
    OutcomeAbsent,
    OutcomeFee,
    OutcomeFraudWarning,
    OutcomeNotPossible,
    OutcomePaidOut,
    PaymentInput,
)

from services.payments.api.mapping import payment_of
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.inputs.on_timer import MAX_DEFERRALS, MAX_RENEWAL_POLLS
from services.payments.domain.owed import HOUR_MS, PAUSES_MS
from services.payments.domain.rules_version import CURRENT, UnknownRules
from services.payments.domain.state.model import GroupPayments
from services.payments.domain.unexpected_funds import SUSPENSE_MS
from tests.scenarios import inputs
from tests.scenarios import payments as s
from tests.scenarios.payments import AUTHORISE, CAPTURE, REFUND, SALE, VOID

SALE_TAKEN = [s.reserved(method="wallet_ok"), s.sold()]
HELD = [s.reserved(), s.authorised()]
CHARGED = [*HELD, s.settle(), s.captured()]


def owed(scenario: s.PaymentsScenario, order: str = "o1") -> int:
    found = payment_of(scenario.state, order)
    assert found is not None
    return found.owed


# Money owed ---------------------------------------------------------------------------------------------------------


def test_a_release_whose_refund_is_refused_is_owed_and_not_reported() -> None:
    scenario = s.current(*SALE_TAKEN, s.release())
    scenario.when(s.declined(REFUND)).then("RefundDeclined 100", "MoneyOwed 100")
    assert owed(scenario) == 100
    scenario.when(s.tick(), after_ms=PAUSES_MS[0] - 1).then_nothing()
    scenario.when(s.tick(), after_ms=1).then("RefundRequested refund:2 h1 100")
    scenario.when(s.refunded(100, 2)).then("Refunded h1 100", "MoneyOwed 0", "PaymentReleased")
    assert owed(scenario) == 0


def test_an_order_is_charged_only_when_the_difference_to_the_tier_is_returned() -> None:
    scenario = s.current(*SALE_TAKEN, s.settle(60))
    scenario.when(s.declined(REFUND)).then("RefundDeclined 40", "MoneyOwed 40")
    scenario.when(s.tick(), after_ms=PAUSES_MS[0]).then("RefundRequested refund:2 h1 40")
    scenario.when(s.refunded(40, 2)).then("Refunded h1 40", "MoneyOwed 0", "Captured h1 60 released 0")


def test_retries_follow_the_schedule_and_end_with_an_alarm() -> None:
    scenario = s.current(*SALE_TAKEN, s.release(), s.declined(REFUND))
    for attempt, pause_ms in enumerate(PAUSES_MS, start=2):
        scenario.when(s.tick(), after_ms=pause_ms).then(f"RefundRequested refund:{attempt} h1 100")
        scenario.when(s.declined(REFUND, attempt), after_ms=0)
    scenario.then("RefundDeclined 100", "MoneyOwed 100 alarm")
    assert scenario.due_ms is None
    scenario.when(s.tick(), after_ms=30 * 24 * HOUR_MS).then_nothing()


def test_a_refund_that_comes_back_is_owed_again_and_pursued() -> None:
    scenario = s.current(*CHARGED, s.refund("r1", 60), s.refunded(60))
    scenario.when(s.reversed_refund(60)).then("RefundReversed h1 60", "MoneyOwed 60 r1")
    assert (owed(scenario), payment_of(scenario.state, "o1").refunded) == (60, 0)  # type: ignore[union-attr]
    scenario.when(s.refund("r2", 10)).then("RefundDeclined r2 10")
    scenario.when(s.tick(), after_ms=PAUSES_MS[0]).then("RefundRequested refund:2 h1 60 r1")
    scenario.when(s.refunded(60, 2)).then("Refunded h1 60 r1", "MoneyOwed 0 r1")
    scenario.when(s.reversed_refund(60)).then_nothing()


def test_a_release_that_comes_back_after_its_end_is_owed() -> None:
    scenario = s.current(*SALE_TAKEN, s.release(), s.refunded(100))
    scenario.when(s.reversed_refund(100)).then("RefundReversed h1 100", "MoneyOwed 100")
    scenario.when(s.tick(), after_ms=PAUSES_MS[0]).then("RefundRequested refund:2 h1 100")


def test_a_reversal_before_the_success_is_known_leaves_the_money_owed() -> None:
    scenario = s.current(*SALE_TAKEN, s.release())
    scenario.when(s.reversed_refund(100)).then("Refunded h1 100", "RefundReversed h1 100", "MoneyOwed 100")
    scenario.when(s.refunded(100)).then_nothing()
    assert owed(scenario) == 100


def test_a_refund_that_is_reported_as_declined_after_its_success_came_back() -> None:
    scenario = s.current(*CHARGED, s.refund("r1", 60), s.refunded(60))
    scenario.when(s.declined(REFUND)).then("RefundReversed h1 60", "MoneyOwed 60 r1")
    assert owed(scenario) == 60
    scenario.when(s.declined(REFUND)).then_nothing()
    released = s.current(*SALE_TAKEN, s.release(), s.refunded(100))
    released.when(s.declined(REFUND)).then("RefundReversed h1 100", "MoneyOwed 100")


def test_an_old_report_of_a_decline_does_not_take_back_a_later_success() -> None:
    scenario = s.current(*CHARGED, s.refund("r1", 60), s.declined(REFUND), s.refunded(60))
    scenario.then("Refunded h1 60 r1").when(s.declined(REFUND)).then_nothing()
    # Under rules version 1 a success is final.
    s.given(*CHARGED, s.refund("r1", 60), s.refunded(60)).when(s.declined(REFUND)).then_nothing()


def test_what_is_owed_grows_with_a_release_and_is_returned_at_once() -> None:
    scenario = s.current(*SALE_TAKEN, s.settle(60), s.declined(REFUND))
    scenario.when(s.release()).then("VoidRequested noted", "MoneyOwed 100", "RefundRequested refund:2 h1 100")
    scenario.when(s.refunded(100, 2)).then("Refunded h1 100", "MoneyOwed 0", "PaymentReleased")


def test_what_is_owed_grows_while_its_refund_is_pending_and_the_rest_follows() -> None:
    scenario = s.current(*SALE_TAKEN, s.settle(60), s.declined(REFUND))
    scenario.when(s.tick(), after_ms=PAUSES_MS[0]).then("RefundRequested refund:2 h1 40")
    fail = s.operator("1", fail_member=FailMember())
    scenario.when(fail).then("OperatorActed fail_member", "CaptureDeclined", "MoneyOwed 100")
    scenario.when(s.refunded(40, 2)).then("Refunded h1 40", "MoneyOwed 60", "RefundRequested refund:3 h1 60")
    scenario.when(s.refunded(60, 3)).then("Refunded h1 60", "MoneyOwed 0")


# Disputes -----------------------------------------------------------------------------------------------------------


def test_a_dispute_withdraws_money_and_its_end_decides() -> None:
    scenario = s.current(*CHARGED).when(s.dispute(fee_minor=15)).then("DisputeOpened dp 60 withdrawn 60")
    scenario.when(s.dispute(fee_minor=15)).then_nothing()
    scenario.when(s.refund("r1", 10)).then("RefundDeclined r1 10")
    scenario.when(s.dispute(DISPUTE_STATE_WON)).then("DisputeWon h1 60")
    scenario.when(s.refund("r2", 10)).then("RefundRequested refund:1 h1 10 r2")


def test_a_lost_dispute_is_final_and_nothing_is_refunded_twice() -> None:
    scenario = s.current(*CHARGED, s.dispute())
    scenario.when(s.dispute(DISPUTE_STATE_LOST)).then("DisputeLost h1 60")
    scenario.when(s.dispute(DISPUTE_STATE_WON)).then_nothing()
    scenario.when(s.refund("r1", 10)).then("RefundDeclined r1 10")


def test_a_release_waits_for_an_open_dispute() -> None:
    scenario = s.current(*SALE_TAKEN, s.dispute(withdrawn=100))
    scenario.when(s.release()).then("VoidRequested noted")
    scenario.when(s.dispute(DISPUTE_STATE_WON, withdrawn=100)).then(
        "DisputeWon h1 100", "RefundRequested refund:1 h1 100"
    )
    lost = s.current(*SALE_TAKEN, s.dispute(withdrawn=100), s.release())
    lost.when(s.dispute(DISPUTE_STATE_LOST, withdrawn=100)).then("DisputeLost h1 100", "PaymentReleased")


def test_a_refund_that_comes_back_after_a_lost_dispute_is_due_in_full() -> None:
    scenario = s.current(*SALE_TAKEN, s.dispute(withdrawn=40), s.release(), s.refunded(60))
    scenario.when(s.dispute(DISPUTE_STATE_LOST, withdrawn=40)).then("DisputeLost h1 40", "PaymentReleased")
    scenario.when(s.reversed_refund(60)).then("RefundReversed h1 60", "MoneyOwed 60")


def test_a_refund_that_comes_back_is_not_due_if_the_customer_has_the_money_by_a_dispute() -> None:
    scenario = s.current(*SALE_TAKEN, s.release(), s.refunded(100), s.dispute(withdrawn=100))
    scenario.when(s.dispute(DISPUTE_STATE_LOST, withdrawn=100)).then("DisputeLost h1 100")
    scenario.when(s.reversed_refund(100)).then("RefundReversed h1 100")
    assert owed(scenario) == 0


def test_a_lost_dispute_first_covers_what_may_not_be_kept_and_the_rest_of_the_charge_can_be_refunded() -> None:
    taken_above = [s.reserved(), s.authorised(), s.settle(), s.captured(amount=100)]
    scenario = s.current(*taken_above).when(s.tick(), after_ms=SUSPENSE_MS).then("RefundRequested refund:1 h1 40")
    scenario.when(s.refunded(40)).when(s.dispute(withdrawn=50)).when(s.dispute(DISPUTE_STATE_LOST, withdrawn=50))
    scenario.when(s.reversed_refund(40)).then("RefundReversed h1 40")
    # 50 of 100 went back: 40 that were taken above the charge of 60, and 10 of the charge.
    scenario.when(s.refund("r1")).then("RefundRequested refund:2 h1 50 r1")


def test_an_inquiry_leaves_refunds_possible_and_evidence_has_a_date() -> None:
    scenario = s.current(*CHARGED).when(s.dispute(withdrawn=0)).then("DisputeOpened dp 60 withdrawn 0")
    scenario.when(s.dispute(withdrawn=0, evidence_due_ms=99)).then("DisputeEvidenceDue")
    scenario.when(s.refund("r1", 10)).then("RefundRequested refund:1 h1 10 r1")
    warning = OutcomeFraudWarning(hold="h1", warning="efw", reason="stolen")
    scenario.when(s.news(fraud_warning=warning)).then("FraudWarningReceived").when(
        s.news(fraud_warning=warning)
    ).then_nothing()


# Persons at the provider --------------------------------------------------------------------------------------------


def test_a_refund_by_hand_counts_once() -> None:
    scenario = s.current(*CHARGED)
    scenario.when(s.external(REFUND, 60)).then("ExternalOperationRecorded refund h1 60")
    scenario.when(s.external(REFUND, 60)).then_nothing()
    assert payment_of(scenario.state, "o1").refunded == 60  # type: ignore[union-attr]
    scenario.when(s.refund("r1", 1)).then("RefundDeclined r1 1")


def test_a_refund_by_hand_of_kept_funds_that_comes_back_stays_with_the_merchant() -> None:
    scenario = s.current(*HELD, s.external(CAPTURE, 100, "c1"), s.release())
    scenario.when(s.operator("1", keep_suspense=KeepSuspense(hold="h1")))
    scenario.then("OperatorActed keep_suspense", "SuspenseKept h1 100", "PaymentReleased")
    scenario.when(s.external(REFUND, 30)).then("ExternalOperationRecorded refund h1 30")
    scenario.when(s.reversed_refund(30, 0, reference="by hand")).then("RefundReversed h1 30")


def test_news_without_an_order_finds_it_by_the_hold() -> None:
    scenario = s.current(*CHARGED).when(s.external(REFUND, 10, order="")).then("ExternalOperationRecorded refund h1 10")
    scenario.when(s.refunded(20, attempt=0)).then("ExternalOperationRecorded refund h1 20")


def test_a_refund_by_hand_lowers_what_is_owed() -> None:
    scenario = s.current(*SALE_TAKEN, s.release(), s.declined(REFUND))
    scenario.when(s.external(REFUND, 30)).then("ExternalOperationRecorded refund h1 30", "MoneyOwed 70")
    scenario.when(s.external(REFUND, 70, "second")).then(
        "ExternalOperationRecorded refund h1 70", "MoneyOwed 0", "PaymentReleased"
    )


def test_a_hold_that_a_person_ends_while_the_group_forms_is_lost() -> None:
    scenario = s.current(*HELD)
    scenario.when(s.external(VOID, 0)).then("ExternalOperationRecorded void h1 0", "Voided h1 100", "HoldLost")
    taken = s.current(*HELD)
    taken.when(s.external(CAPTURE, 100)).then(
        "ExternalOperationRecorded capture h1 100", "HoldLapsed h1 100", "SuspenseRecorded h1 100 CNY", "HoldLost"
    )


def test_a_sale_that_a_person_refunds_while_the_group_forms_is_lost_and_only_the_rest_goes_back() -> None:
    scenario = s.current(*SALE_TAKEN)
    scenario.when(s.external(REFUND, 30)).then("ExternalOperationRecorded refund h1 30", "HoldLost")
    scenario.when(s.release()).then("VoidRequested noted", "RefundRequested refund:1 h1 70")


def test_fees_and_payouts_are_recorded_once() -> None:
    fee = s.news(fee=OutcomeFee(hold="h1", reference="txn", amount_minor=3))
    paid = s.news(paid_out=OutcomePaidOut(hold="h1", reference="txn", amount_minor=57, payout="po"))
    scenario = s.current(*CHARGED).when(fee).then("FeeCharged").when(fee).then_nothing()
    scenario.when(paid).then("PaidOut").when(paid).then_nothing()


# Suspense and late money --------------------------------------------------------------------------------------------


def test_unexpected_funds_wait_before_they_are_returned() -> None:
    scenario = s.current(s.captured("h9", 500)).then("SuspenseRecorded h9 500")
    scenario = s.current().when(s.captured("h9", 500)).then("SuspenseRecorded h9 500")
    assert not scenario.calls
    scenario.when(s.captured("h9", 500)).then_nothing()
    scenario.when(s.tick(), after_ms=SUSPENSE_MS).then("RefundRequested refund:1 h9 500")
    (event,) = scenario.events
    assert event.refund_requested.call.returns_suspense


def test_a_sale_that_is_paid_after_its_confirmed_close_goes_back() -> None:
    closed = [s.reserved(method="wallet_ok"), s.action_required(operation=SALE), s.release(), s.voided()]
    scenario = s.current(*closed)
    scenario.when(s.sold()).then("SuspenseRecorded h1 100 CNY")
    scenario.when(s.sold()).then_nothing()
    scenario.when(s.tick(), after_ms=SUSPENSE_MS).then("RefundRequested refund:1 h1 100")


# Calls --------------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_no_decline() -> None:
    blocked = inputs.provider_result("o1", CAPTURE, 1, not_possible=OutcomeNotPossible(error="no such payment"))
    scenario = s.current(*HELD, s.settle()).when(blocked).then("CallDeferred capture:1")
    assert scenario.events[0].call_deferred.alarm


def test_a_failure_that_is_proven_not_done_gets_a_new_key_and_a_pause() -> None:
    absent = inputs.provider_result("o1", CAPTURE, 1, absent=OutcomeAbsent(error="internal error"))
    scenario = s.current(*HELD, s.settle()).when(absent)
    scenario.then("CallRetried capture:2 h1 60", "CallDeferred capture:2")
    assert not scenario.calls


@pytest.mark.parametrize("operation", [CAPTURE, VOID])
def test_retries_have_an_end_until_an_operator_acts(operation: int) -> None:
    scenario = s.current(*HELD, s.settle() if operation == CAPTURE else s.release())
    for _ in range(MAX_DEFERRALS):
        scenario.when(s.retry_later(operation), after_ms=0)  # type: ignore[arg-type] # an Operation
        scenario.when(s.tick(), after_ms=HOUR_MS // 2)
    name = "capture:1" if operation == CAPTURE else "void:1"
    scenario.when(s.retry_later(operation)).then(f"CallGivenUp {name}")  # type: ignore[arg-type] # an Operation
    assert scenario.due_ms is None
    retry = s.operator("c1", retry_call={"operation": operation, "attempt": 1})
    scenario.when(retry).then(
        "OperatorActed retry_call", f"CallRetried {name} h1 {60 if operation == CAPTURE else 100}"
    )


def test_a_void_has_an_end_while_the_shopper_may_confirm() -> None:
    scenario = s.current(s.reserved(method="wallet_ok"), s.action_required(operation=SALE), s.release())
    last = ""
    while "CallGivenUp" not in last:
        scenario.when(s.retry_later(VOID))
        last = scenario.lines[0]
        if "CallDeferred" in last:
            scenario.when(s.tick(), after_ms=300_000)
    assert last == "CallGivenUp void:1"


def test_the_poll_of_a_released_order_has_an_end() -> None:
    scenario = s.current(s.reserved(method="wallet_ok"), s.action_required(operation=SALE), s.release())
    polls = 0
    while scenario.lines != ["CallGivenUp sale:1"]:
        scenario.when(s.tick(), after_ms=60_000).when(s.action_required(operation=SALE))
        polls += 1
        assert polls <= MAX_RENEWAL_POLLS
    assert scenario.due_ms is None


def test_a_capture_that_may_come_too_late_raises_one_alarm() -> None:
    scenario = s.current(s.reserved(), s.authorised(), s.settle())
    until_ms = scenario.state.orders["o1"].holds["h1"].capture_before_ms  # type: ignore[union-attr]
    scenario.when(s.retry_later(CAPTURE), at=until_ms - s.START_MS - HOUR_MS)
    scenario.then("CallDeferred capture:1", "CaptureAtRisk")


# Versions -----------------------------------------------------------------------------------------------------------


def test_the_first_input_fixes_the_rules_of_a_group() -> None:
    scenario = s.given(s.reserved(method="wallet_ok"))
    stamped = s.declined(SALE)
    stamped.rules_version = CURRENT
    scenario.when(stamped)
    assert scenario.state.rules_version == 1
    new = s.current(s.reserved())
    assert new.state.rules_version == CURRENT
    assert PaymentDecision.FromString(new.log[0]).events[0].rules_selected.rules_version == CURRENT


def test_an_input_without_events_selects_no_rules() -> None:
    assert s.current(s.tick()).log == []


def test_a_fault_selects_the_rules_of_its_input() -> None:
    scenario = s.current(s.reserved(amount=0))
    assert scenario.state.rules_version == CURRENT
    assert scenario.lines == ["Faulted Impossible"]


def test_a_version_that_this_build_does_not_know_stops_it() -> None:
    domain = GroupPaymentsDomain()
    with pytest.raises(UnknownRules, match="Deploy a build that knows version 9"):
        domain.decode_input(PaymentInput(tick=Tick(), rules_version=9).SerializeToString())
    decision = PaymentDecision(group="g", version=1)
    decision.events.add().rules_selected.rules_version = 9
    with pytest.raises(UnknownRules):
        domain.decode_decision(decision.SerializeToString())


def test_news_of_a_hold_that_no_order_has_is_an_alarm() -> None:
    scenario = s.current().when(s.external(REFUND, 5, hold="h7"))
    scenario.then("SuspenseRecorded h7 0")
    assert isinstance(scenario.state, GroupPayments)
    assert scenario.due_ms is None
    assert AUTHORISE
