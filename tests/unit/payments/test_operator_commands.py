"""Commands of operators: each is recorded once with who and why, and is done or refused."""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as pb

from services.payments.domain.inputs import on_operator_command as rules
from services.payments.domain.owed import PAUSES_MS
from services.payments.domain.unexpected_funds import SUSPENSE_MS
from tests.scenarios import payments as s
from tests.scenarios.payments import AUTHORISE, CAPTURE, REFUND

HELD = [s.reserved(), s.authorised()]
OWED = [s.reserved(method="wallet_ok"), s.sold(), s.release(), s.declined(REFUND)]
STRAY = [s.captured("h9", 500)]


def test_a_command_is_recorded_with_who_and_why_and_is_done_once() -> None:
    retry = s.operator("c1", retry_call=pb.RetryCall(operation=REFUND))
    scenario = s.current(*OWED).when(retry)
    scenario.then("OperatorActed retry_call", "RefundRequested refund:2 h1 100")
    acted = scenario.events[0].operator_acted
    assert (acted.operator, acted.reason, acted.request_id) == ("ann", "the shopper called", "c1")
    scenario.when(retry).then_nothing()
    scenario.when(s.operator("c2", retry_call=pb.RetryCall(operation=REFUND))).then(f"OperatorActed {rules.IN_FLIGHT}")


def test_a_command_without_an_operator_or_a_reason_is_refused() -> None:
    for who, why in (("", "x"), ("ann", "")):
        scenario = s.current(*OWED).when(s.operator("c1", who, why, retry_call=pb.RetryCall(operation=REFUND)))
        scenario.then(f"OperatorActed {rules.NOT_SIGNED}")


def test_nothing_is_done_for_an_order_without_pending_money() -> None:
    scenario = s.current(*HELD, s.settle(), s.captured())
    for name, command in (
        ("a", s.operator("a", release_member=pb.ReleaseMember())),
        ("b", s.operator("b", fail_member=pb.FailMember())),
    ):
        assert command.operator.request_id == name
        scenario.when(command).then(f"OperatorActed {rules.NO_PAYMENT}")
    scenario = s.current(*HELD).when(s.operator("c", fail_member=pb.FailMember()))
    scenario.then(f"OperatorActed {rules.NOT_SETTLING}")


def test_a_deferred_call_is_retried_at_once() -> None:
    scenario = s.current(*HELD, s.settle(), s.retry_later(CAPTURE))
    scenario.when(s.operator("c1", retry_call=pb.RetryCall(operation=CAPTURE, attempt=1)))
    scenario.then("OperatorActed retry_call", "CallRetried capture:1 h1 60")
    scenario.when(s.operator("c2", retry_call=pb.RetryCall(operation=CAPTURE, attempt=1)))
    scenario.then(f"OperatorActed {rules.IN_FLIGHT}")
    scenario.when(s.operator("c3", retry_call=pb.RetryCall(operation=AUTHORISE)))
    scenario.then(f"OperatorActed {rules.NO_CALL}")


def test_a_call_that_is_given_up_ends_as_if_it_were_declined() -> None:
    scenario = s.current(*HELD, s.settle(), s.retry_later(CAPTURE))
    scenario.when(s.operator("c1", give_up_call=pb.GiveUpCall(operation=CAPTURE, attempt=1)))
    scenario.then("OperatorActed give_up_call", "CaptureDeclined", "VoidRequested void:1 h1 100")
    scenario.when(s.operator("c2", give_up_call=pb.GiveUpCall(operation=pb.OPERATION_VOID, attempt=1)))
    scenario.then("OperatorActed give_up_call", "HoldLapsed h1 100")


def test_a_hold_request_that_is_given_up_is_an_alarm_and_its_money_goes_back_once_it_is_reported() -> None:
    give_up = s.operator("c1", give_up_call=pb.GiveUpCall(operation=AUTHORISE, attempt=1))
    scenario = s.current(s.reserved(), s.retry_later(AUTHORISE)).when(give_up)
    scenario.then("OperatorActed give_up_call", "SuspenseRecorded  0 CNY", "HoldDeclined")
    scenario.when(s.authorised()).then("SuspenseRecorded h1 100 CNY")
    scenario.when(s.tick(), after_ms=SUSPENSE_MS).then("VoidRequested void:1 h1 100")


def test_a_hold_request_that_is_given_up_can_not_be_confirmed_any_more() -> None:
    give_up = s.operator("c1", give_up_call=pb.GiveUpCall(operation=AUTHORISE, attempt=1))
    scenario = s.current(s.reserved(), s.action_required()).when(give_up)
    scenario.then("OperatorActed give_up_call", "SuspenseRecorded h1 0 CNY", "VoidRequested void:1 h1", "HoldDeclined")
    scenario.when(s.voided()).then("Voided h1 0")
    released = s.current(s.reserved(), s.action_required(), s.release()).when(give_up)
    released.then("OperatorActed give_up_call", "SuspenseRecorded h1 0 CNY", "HoldDeclined")
    released.when(s.voided()).then("Voided h1 0", "PaymentReleased")


def test_a_renewal_that_is_given_up_fails_the_member() -> None:
    give_up = s.operator("c1", give_up_call=pb.GiveUpCall(operation=AUTHORISE, attempt=2))
    scenario = s.current(*HELD, s.hold_gone(AUTHORISE), s.settle(), s.retry_later(AUTHORISE, 2)).when(give_up)
    scenario.then("OperatorActed give_up_call", "SuspenseRecorded  0 CNY", "CaptureDeclined")
    scenario.when(s.authorised("h2", 60, attempt=2)).then("SuspenseRecorded h2 60 CNY")


def test_a_refund_that_is_given_up_stays_owed_with_an_alarm() -> None:
    scenario = s.current(*OWED[:-1]).when(s.operator("c1", give_up_call=pb.GiveUpCall(operation=REFUND, attempt=1)))
    scenario.then("OperatorActed give_up_call", "RefundDeclined 100", "MoneyOwed 100", "MoneyOwed 100 alarm")
    assert scenario.due_ms is None


def test_a_member_of_a_stuck_settlement_fails_or_is_released() -> None:
    scenario = s.current(*HELD, s.settle(), s.retry_later(CAPTURE))
    scenario.when(s.operator("c1", release_member=pb.ReleaseMember())).then(f"OperatorActed {rules.CAPTURE_PENDING}")
    scenario.when(s.operator("c2", fail_member=pb.FailMember()))
    scenario.then("OperatorActed fail_member", "CaptureDeclined", "VoidRequested void:1 h1 100")
    sale = s.current(s.reserved(method="wallet_ok"), s.sold(), s.settle(60), s.declined(REFUND))
    sale.when(s.operator("c1", release_member=pb.ReleaseMember()))
    sale.then("OperatorActed release_member", "VoidRequested noted", "MoneyOwed 100", "RefundRequested refund:2 h1 100")


def test_a_member_whose_new_hold_is_pending_is_released_and_not_failed() -> None:
    scenario = s.current(*HELD, s.settle(), s.hold_gone(), s.retry_later(attempt=2))
    scenario.when(s.operator("c1", fail_member=pb.FailMember())).then(f"OperatorActed {rules.HOLD_PENDING}")
    scenario.when(s.operator("c2", release_member=pb.ReleaseMember()))
    scenario.then("OperatorActed release_member", "VoidRequested noted")
    scenario.when(s.authorised("h2", 60, 2)).then("HoldAuthorised h2 60", "VoidRequested void:1 h2 60")


def test_an_amount_that_was_returned_outside_is_not_owed_any_more() -> None:
    scenario = s.current(*OWED)
    for name, body, refusal in (
        ("a", pb.MarkReturnedOutside(amount_minor=101, reference="t"), rules.NOT_OWED),
        ("b", pb.MarkReturnedOutside(amount_minor=10), rules.NO_REFERENCE),
        ("c", pb.MarkReturnedOutside(amount_minor=10, reference="t", hold="h7"), rules.NOT_OWED),
    ):
        scenario.when(s.operator(name, mark_returned_outside=body)).then(f"OperatorActed {refusal}")
    scenario.when(s.operator("d", mark_returned_outside=pb.MarkReturnedOutside(amount_minor=40, reference="t")))
    scenario.then("OperatorActed mark_returned_outside", "ReturnedOutside h1 40", "MoneyOwed 60")
    scenario.when(s.tick(), after_ms=PAUSES_MS[0]).then("RefundRequested refund:2 h1 60")
    body = pb.MarkReturnedOutside(amount_minor=60, reference="t")
    scenario.when(s.operator("e", mark_returned_outside=body)).then(f"OperatorActed {rules.IN_FLIGHT}")
    scenario.when(s.declined(REFUND, 2)).when(s.operator("f", mark_returned_outside=body))
    scenario.then("OperatorActed mark_returned_outside", "ReturnedOutside h1 60", "MoneyOwed 0", "PaymentReleased")


def test_an_approved_return_does_not_wait() -> None:
    scenario = s.current(*STRAY).when(s.operator("c1", approve_return=pb.ApproveReturn(hold="h9")))
    scenario.then("OperatorActed approve_return", "SuspenseApproved", "RefundRequested refund:1 h9 500")
    call = scenario.events[-1].refund_requested.call
    assert call.approved
    assert call.returns_suspense
    later = s.current(*STRAY).when(s.tick(), after_ms=SUSPENSE_MS).when(s.retry_later(REFUND))
    later.when(s.operator("c1", approve_return=pb.ApproveReturn(hold="h9")))
    later.then("OperatorActed approve_return", "SuspenseApproved", "CallRetried refund:1 h9 500")
    assert later.events[-1].call_retried.call.approved


def test_funds_that_were_taken_can_be_kept() -> None:
    scenario = s.current(*STRAY).when(s.operator("c1", keep_suspense=pb.KeepSuspense(hold="h9")))
    scenario.then("OperatorActed keep_suspense", "SuspenseKept h9 500")
    assert scenario.due_ms is None
    scenario.when(*STRAY).then_nothing()
    held = s.current(s.authorised("h9", 500)).when(s.operator("c1", keep_suspense=pb.KeepSuspense(hold="h9")))
    held.then(f"OperatorActed {rules.ONLY_HELD}")


def test_an_adjustment_takes_two_operators() -> None:
    wanted = pb.AdjustLedger(from_account=4, to_account=11, amount_minor=7, currency="CNY")
    scenario = s.current().when(s.operator("p", adjust_ledger=wanted)).then("OperatorActed adjust_ledger")
    approve = pb.ApproveAdjustment(proposal="p")
    scenario.when(s.operator("a", approve_adjustment=approve)).then(f"OperatorActed {rules.SAME_OPERATOR}")
    scenario.when(s.operator("b", "bob", approve_adjustment=approve))
    scenario.then("OperatorActed approve_adjustment", "LedgerAdjusted 4 11 7")
    scenario.when(s.operator("c", "bob", approve_adjustment=approve)).then(f"OperatorActed {rules.NO_PROPOSAL}")
    for name, wrong in (
        ("d", pb.AdjustLedger(from_account=4, to_account=4, amount_minor=7, currency="CNY")),
        ("e", pb.AdjustLedger(from_account=4, to_account=99, amount_minor=7, currency="CNY")),
    ):
        scenario.when(s.operator(name, adjust_ledger=wrong)).then(f"OperatorActed {rules.NOT_AN_ADJUSTMENT}")


def test_an_unknown_result_is_resolved_by_what_the_operator_saw() -> None:
    pending = [*HELD, s.settle(), s.retry_later(CAPTURE)]
    done = pb.ResolveUnknown(operation=CAPTURE, attempt=1, done=True)
    scenario = s.current(*pending).when(s.operator("c1", resolve_unknown=done))
    scenario.then("OperatorActed resolve_unknown", "Captured h1 60 released 40")
    scenario.when(s.captured()).then_nothing()
    absent = pb.ResolveUnknown(operation=CAPTURE, attempt=1)
    scenario = s.current(*pending).when(s.operator("c1", resolve_unknown=absent))
    scenario.then("OperatorActed resolve_unknown", "CallRetried capture:2 h1 60", "CallDeferred capture:2")
