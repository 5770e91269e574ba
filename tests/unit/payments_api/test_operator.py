"""OperatorService: each repair is decided once, recorded with who and why, and refused where the rules refuse it.

Method: the real rules behind an inbox that decides at once, is paused, or is unavailable.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import (
    OPERATION_CAPTURE,
    OPERATION_REFUND,
    OPERATION_SALE,
    PaymentDecision,
)
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_RECONCILIATION,
    OutcomeAbsent,
    OutcomeCaptured,
    OutcomeDeclined,
    OutcomeFee,
    ProviderOutcome,
)
from groupbuy.payments.v1.ledger_pb2 import LEDGER_ACCOUNT_ADJUSTMENTS, LEDGER_ACCOUNT_CLEARING
from groupbuy.payments.v1.payments_pb2 import PAYMENT_STATE_CAPTURED

from chassis.rpc.errors import ApiError
from chassis.rpc.validation import validate
from eventlog.core.errors import BrokerUnavailable
from tests.scenarios.group_events import hold_of
from tests.scenarios.inputs import captured
from tests.unit.chassis.support import eventually
from tests.unit.payments_api.operators import ALICE, BOB, NAME, OperatorView, context, fields, issues, operators
from tests.unit.payments_api.service import ORDER, Inbox

FIRST = "1b9f2d8e-7a43-4a53-9d0e-0c4a3b6f8e21"


@pytest.fixture
def view() -> OperatorView:
    return OperatorView()


@pytest.fixture
def inbox(view: OperatorView) -> Inbox:
    return Inbox(view)


def events(view: OperatorView) -> list[str]:
    """The kinds of the events of the last decision."""
    return [str(event.WhichOneof("body")) for event in PaymentDecision.FromString(view.log[-1]).events]


async def retry(
    view: OperatorView, inbox: Inbox, operator: str = ALICE, seconds: float = 5.0, **given: Any
) -> pb.Repair:
    request = pb.RetryCallRequest(**fields(operation=OPERATION_REFUND) | given)
    return await operators(view, inbox).RetryCall(request, context(operator, seconds))


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(ApiError) as caught:
        await call
    return caught.value.code, caught.value.reason_name


async def test_a_refund_of_owed_money_is_retried_and_recorded_with_who_and_why(
    view: OperatorView, inbox: Inbox
) -> None:
    view.owe()
    repair = await retry(view, inbox, reason="the account is open again")
    assert events(view) == ["operator_acted", "refund_requested"]
    acted = PaymentDecision.FromString(view.log[-1]).events[0].operator_acted
    assert (acted.operator, acted.reason, acted.refusal) == (ALICE, "the account is open again", "")
    assert acted.action == repair.action
    assert (repair.operator, repair.payment.name) == (ALICE, NAME)
    assert view.get(NAME.split("/")[1]).version == repair.payment.version  # type: ignore[union-attr]


async def test_a_repeated_request_is_decided_once(view: OperatorView, inbox: Inbox) -> None:
    view.owe()
    first = await retry(view, inbox, request_id=FIRST)
    assert await retry(view, inbox, request_id=FIRST.upper()) == first
    assert len(inbox.records) == 1


async def test_a_repeated_request_of_another_operator_names_the_first_one(view: OperatorView, inbox: Inbox) -> None:
    view.owe()
    await retry(view, inbox, request_id=FIRST)
    assert (await retry(view, inbox, BOB, request_id=FIRST)).operator == ALICE


@pytest.mark.parametrize("other", [{"reason": "another"}, {"operation": OPERATION_CAPTURE}, {"attempt": 1}])
async def test_another_payload_under_the_same_id_is_refused(
    view: OperatorView, inbox: Inbox, other: dict[str, Any]
) -> None:
    view.owe()
    await retry(view, inbox, request_id=FIRST)
    reused = refused(retry(view, inbox, **{"request_id": FIRST} | other))
    assert await reused == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert len(inbox.records) == 1


async def test_a_refusal_of_the_rules_is_recorded_and_repeated(view: OperatorView, inbox: Inbox) -> None:
    view.charge()
    for _ in range(2):
        code = await refused(retry(view, inbox, request_id=FIRST))
        assert code == (grpc.StatusCode.FAILED_PRECONDITION, "REPAIR_REFUSED")
    assert events(view) == ["operator_acted"]
    assert len(inbox.records) == 1


async def test_an_order_without_a_payment_is_not_found(view: OperatorView, inbox: Inbox) -> None:
    view.owe()
    for name in (NAME.replace("6e2d0f6a", "00000000"), NAME.replace("0b6a0c2e", "00000000")):
        assert await refused(retry(view, inbox, name=name)) == (grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND")
    assert inbox.records == []


async def test_a_version_that_has_passed_is_refused(view: OperatorView, inbox: Inbox) -> None:
    view.owe()
    (seen,) = await issues(view)
    stale = refused(retry(view, inbox, expected_version=seen.version - 1))
    assert await stale == (grpc.StatusCode.ABORTED, "VERSION_MISMATCH")
    assert inbox.records == []
    await retry(view, inbox, expected_version=seen.version, request_id=FIRST)
    # A retry of a decided request returns it, whatever has followed.
    await retry(view, inbox, expected_version=seen.version, request_id=FIRST)


async def test_validate_only_shows_the_events_and_appends_nothing(view: OperatorView, inbox: Inbox) -> None:
    view.owe()
    version = len(view.log)
    repair = await retry(view, inbox, validate_only=True)
    assert [event.WhichOneof("body") for event in repair.preview] == ["operator_acted", "refund_requested"]
    assert repair.preview[1].refund_requested.call.amount_minor == 100
    assert repair.preview[1].refund_requested.call.payment_method == "…cret"
    assert (inbox.records, len(view.log)) == ([], version)
    assert [event.WhichOneof("body") for event in (await retry(view, inbox, validate_only=True)).preview] != []


async def test_validate_only_shows_a_refusal(view: OperatorView, inbox: Inbox) -> None:
    view.charge()
    repair = await retry(view, inbox, validate_only=True)
    assert repair.refusal
    assert repair.payment.state == PAYMENT_STATE_CAPTURED


async def test_it_waits_for_the_decision_until_the_deadline(view: OperatorView, inbox: Inbox) -> None:
    view.owe()
    inbox.paused = True
    late = refused(retry(view, inbox, seconds=0.1))
    assert await late == (grpc.StatusCode.DEADLINE_EXCEEDED, "ANSWER_PENDING")
    waiting = asyncio.create_task(retry(view, inbox))
    await eventually(lambda: len(inbox.records) == 2)
    assert not waiting.done()
    view.receive(inbox.records[1][1])
    assert (await waiting).operator == ALICE


async def test_an_unavailable_broker_is_reported(view: OperatorView, inbox: Inbox) -> None:
    view.owe()
    inbox.unavailable = True
    with pytest.raises(BrokerUnavailable):
        await retry(view, inbox)


async def test_a_caller_without_a_name_is_local(view: OperatorView, inbox: Inbox) -> None:
    view.owe()
    assert (await retry(view, inbox, "")).operator == "local"


# The other actions --------------------------------------------------------------------------------------------------


async def test_money_returned_outside_is_owed_no_more(view: OperatorView, inbox: Inbox) -> None:
    view.owe()
    servicer = operators(view, inbox)
    part = pb.MarkReturnedOutsideRequest(**fields(amount_minor=40, reference="SEPA 1"))
    await servicer.MarkReturnedOutside(part, context())
    assert [one.amount_minor for one in await issues(view)] == [60]
    too_much = pb.MarkReturnedOutsideRequest(**fields(amount_minor=61, reference="SEPA 2"))
    code = await refused(servicer.MarkReturnedOutside(too_much, context()))
    assert code == (grpc.StatusCode.FAILED_PRECONDITION, "REPAIR_REFUSED")
    rest = pb.MarkReturnedOutsideRequest(**fields(amount_minor=60, reference="SEPA 2", hold=hold_of(ORDER)))
    await servicer.MarkReturnedOutside(rest, context())
    assert await issues(view) == []


async def test_suspense_is_returned_on_approval(view: OperatorView, inbox: Inbox) -> None:
    view.charge()
    view.stray()
    (issue,) = await issues(view)
    assert (issue.kind, issue.amount_minor, issue.hold) == (pb.ISSUE_KIND_SUSPENSE, 70, "stray")
    await operators(view, inbox).ApproveReturn(pb.ApproveReturnRequest(**fields(hold="stray")), context())
    assert events(view) == ["operator_acted", "suspense_approved", "refund_requested"]
    assert await issues(view) == []


async def test_suspense_of_an_order_that_no_group_named_has_no_payment(view: OperatorView, inbox: Inbox) -> None:
    view.stray()
    repair = await operators(view, inbox).ApproveReturn(pb.ApproveReturnRequest(**fields(hold="stray")), context())
    assert not repair.HasField("payment")


async def test_suspense_can_be_kept(view: OperatorView, inbox: Inbox) -> None:
    view.charge()
    view.stray()
    await operators(view, inbox).KeepSuspense(pb.KeepSuspenseRequest(**fields(hold="stray")), context())
    assert events(view) == ["operator_acted", "suspense_kept"]
    assert await issues(view) == []


async def test_an_unknown_capture_is_resolved(view: OperatorView, inbox: Inbox) -> None:
    view.stick()
    request = pb.ResolveUnknownRequest(**fields(operation=OPERATION_CAPTURE, attempt=1, done=True))
    repair = await operators(view, inbox).ResolveUnknown(request, context())
    assert events(view) == ["operator_acted", "captured"]
    assert repair.payment.captured_minor == 100


async def test_a_stuck_capture_is_given_up(view: OperatorView, inbox: Inbox) -> None:
    view.stick()
    request = pb.GiveUpCallRequest(**fields(operation=OPERATION_CAPTURE, attempt=1))
    await operators(view, inbox).GiveUpCall(request, context())
    assert events(view)[:2] == ["operator_acted", "capture_declined"]


async def test_a_stuck_member_is_failed_or_released(view: OperatorView, inbox: Inbox) -> None:
    view.stick()
    await operators(view, inbox).FailMember(pb.FailMemberRequest(**fields()), context())
    assert events(view)[:2] == ["operator_acted", "capture_declined"]
    sale = OperatorView()
    sale.sell(60)
    await operators(sale, Inbox(sale)).ReleaseMember(pb.ReleaseMemberRequest(**fields()), context())
    assert events(sale)[:2] == ["operator_acted", "void_requested"]


async def test_a_member_with_a_capture_whose_result_is_unknown_is_not_released(
    view: OperatorView, inbox: Inbox
) -> None:
    view.stick()
    release = operators(view, inbox).ReleaseMember(pb.ReleaseMemberRequest(**fields()), context())
    assert await refused(release) == (grpc.StatusCode.FAILED_PRECONDITION, "REPAIR_REFUSED")


# Two persons --------------------------------------------------------------------------------------------------------


def adjustment(**given: Any) -> pb.AdjustLedgerRequest:
    accounts = {"from_account": LEDGER_ACCOUNT_CLEARING, "to_account": LEDGER_ACCOUNT_ADJUSTMENTS}
    return pb.AdjustLedgerRequest(**fields(request_id=FIRST, amount_minor=5, currency="CNY") | accounts | given)


async def test_an_adjustment_needs_the_approval_of_another_identity(view: OperatorView, inbox: Inbox) -> None:
    view.charge()
    servicer = operators(view, inbox)
    await servicer.AdjustLedger(adjustment(), context(ALICE))
    (issue,) = await issues(view)
    assert (issue.kind, issue.reference, issue.alarm) == (pb.ISSUE_KIND_ADJUSTMENT, FIRST, True)
    own = servicer.ApproveAdjustment(pb.ApproveAdjustmentRequest(**fields(proposal=FIRST)), context(ALICE))
    assert await refused(own) == (grpc.StatusCode.PERMISSION_DENIED, "SECOND_OPERATOR_REQUIRED")
    assert events(view) == ["operator_acted"]
    approval = pb.ApproveAdjustmentRequest(**fields(proposal=FIRST.upper()))
    await servicer.ApproveAdjustment(approval, context(BOB))
    assert events(view) == ["operator_acted", "ledger_adjusted"]
    assert await issues(view) == []


async def test_the_rules_hold_the_two_person_rule_too(view: OperatorView, inbox: Inbox) -> None:
    """The proposal is decided after the approval was checked: the decider refuses it."""
    view.charge()
    servicer = operators(view, inbox)
    inbox.paused = True
    proposal = asyncio.create_task(servicer.AdjustLedger(adjustment(), context(ALICE)))
    approval = asyncio.create_task(
        servicer.ApproveAdjustment(pb.ApproveAdjustmentRequest(**fields(proposal=FIRST)), context(ALICE))
    )
    await eventually(lambda: len(inbox.records) == 2)
    for _, record, _ in sorted(inbox.records, key=lambda one: one[1].operator.request_id != FIRST):
        view.receive(record)
    await proposal
    assert await refused(approval) == (grpc.StatusCode.FAILED_PRECONDITION, "REPAIR_REFUSED")


async def test_an_adjustment_between_one_account_and_itself_is_invalid(view: OperatorView, inbox: Inbox) -> None:
    view.charge()
    same = operators(view, inbox).AdjustLedger(adjustment(to_account=LEDGER_ACCOUNT_CLEARING), context())
    assert (await refused(same))[1] == "INVALID_FIELDS"


# Findings of a statement --------------------------------------------------------------------------------------------


def finding(**given: Any) -> pb.FeedOutcomeRequest:
    outcome = ProviderOutcome(operation=OPERATION_CAPTURE, payment_method="simulated_", **captured("found", 30))
    values: dict[str, Any] = {"name": NAME, "reason": "statement of May", "outcome": outcome}
    return pb.FeedOutcomeRequest(**values | given)


async def test_a_finding_is_appended_with_its_operator(view: OperatorView, inbox: Inbox) -> None:
    view.charge()
    response = await operators(view, inbox).FeedOutcome(finding(), context(BOB))
    assert (response.partition, response.offset) == (3, 0)
    outcome = inbox.records[0][1].outcome
    assert (outcome.order, outcome.operator, outcome.reason) == (ORDER, BOB, "statement of May")
    assert outcome.origin == OUTCOME_ORIGIN_RECONCILIATION
    assert [one.hold for one in await issues(view)] == ["found"]
    again = await operators(view, inbox).FeedOutcome(finding(), context(BOB))
    assert again.offset == 1
    assert [one.amount_minor for one in await issues(view)] == [30]


async def test_a_finding_about_an_unknown_group_is_taken(view: OperatorView, inbox: Inbox) -> None:
    name = NAME.replace("0b6a0c2e", "00000000")
    await operators(view, inbox).FeedOutcome(finding(name=name), context())
    assert [one.payment for one in await issues(view)] == [name]


async def test_a_finding_is_previewed(view: OperatorView, inbox: Inbox) -> None:
    view.charge()
    response = await operators(view, inbox).FeedOutcome(finding(validate_only=True), context())
    assert (response.offset, inbox.records) == (-1, [])
    assert [event.WhichOneof("body") for event in response.preview] == ["suspense_recorded"]


@pytest.mark.parametrize("preview", [False, True], ids=["append", "preview"])
@pytest.mark.parametrize("operation", [0, 7, 99, -1])
async def test_a_finding_at_which_the_decider_would_stop_is_not_appended(
    view: OperatorView, inbox: Inbox, operation: Any, preview: bool
) -> None:
    view.charge()
    for result in ({"captured": OutcomeCaptured()}, {"declined": OutcomeDeclined()}, {"absent": OutcomeAbsent()}):
        outcome = ProviderOutcome(operation=operation, **result)
        call = operators(view, inbox).FeedOutcome(finding(outcome=outcome, validate_only=preview), context())
        assert (await refused(call))[1] == "INVALID_FIELDS"
    assert inbox.records == []


async def test_news_of_a_provider_need_no_operation(view: OperatorView, inbox: Inbox) -> None:
    view.charge()
    outcome = ProviderOutcome(payment_method="simulated_", fee=OutcomeFee(amount_minor=3, currency="CNY"))
    await operators(view, inbox).FeedOutcome(finding(outcome=outcome), context())
    assert len(inbox.records) == 1


async def test_a_finding_without_a_result_is_invalid(view: OperatorView, inbox: Inbox) -> None:
    empty = finding(outcome=ProviderOutcome(operation=OPERATION_SALE))
    assert (await refused(operators(view, inbox).FeedOutcome(empty, context())))[1] == "INVALID_FIELDS"


@pytest.mark.parametrize(
    "wrong",
    [
        {"request_id": "1"},
        {"reason": ""},
        {"reason": "x" * 501},
        {"operation": 0},
        {"attempt": -1},
        {"name": NAME.removesuffix("/payment")},
        {"expected_version": -1},
    ],
)
def test_invalid_requests_are_refused_before_the_service(wrong: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        validate(pb.RetryCallRequest(**fields(operation=OPERATION_REFUND) | wrong))
    assert caught.value.reason_name == "INVALID_FIELDS"
