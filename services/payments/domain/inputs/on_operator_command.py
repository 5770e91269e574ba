"""Commands of operators: each is recorded once with who and why, and is done or refused. Its effects follow at once.

An adjustment of the ledger takes two operators: one proposes it, another approves it. The reasons are stored in
decisions: changing a text changes the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_RECONCILIATION, OperatorCommand, ProviderOutcome

from services.payments.domain import owed, unexpected_funds
from services.payments.domain.errors import Impossible
from services.payments.domain.inputs.on_provider_result import on_provider_result
from services.payments.domain.next_steps import next_steps
from services.payments.domain.output import events, provider_events
from services.payments.domain.state.model import HOLD_OPENING, Call, GroupPayments, Intent, Payment
from services.payments.domain.state.provider_life import NEVER_MS, Owed

NOT_SIGNED = "a command names its operator and a reason"
NO_PAYMENT = "nothing of this order is pending"
NO_CALL = "no such call is pending"
IN_FLIGHT = "the call is in flight"
NOT_SETTLING = "the order is not a member that could still be charged"
CAPTURE_PENDING = "its capture is pending: resolve the call, or fail the member"
HOLD_PENDING = "its new hold is pending: resolve the call, or release the member"
NOT_OWED = "this sum is not owed"
NO_REFERENCE = "the reference of the transfer is missing"
NO_SUSPENSE = "no unexpected funds of this hold wait"
ONLY_HELD = "the funds are held and not taken: they can only be returned"
IN_DISPUTE = "a dispute decides about these funds"
NOT_AN_ADJUSTMENT = "an adjustment has two accounts, an amount and a currency"
NO_PROPOSAL = "no such proposal waits"
SAME_OPERATOR = "another operator has to approve the adjustment"
GIVEN_UP = "given up by an operator"
UNKNOWN_HOLD = "a hold request was given up: the provider may hold money, which goes back once it is reported"
FAILED = "failed by an operator"

#: Numbers of the ledger's accounts.
ACCOUNTS = range(1, 13)

#: The effects of an action, or the reason why it is refused.
Decided: TypeAlias = "Callable[[], Iterator[PaymentEvent]] | str"


def on_operator_command(payments: GroupPayments, command: OperatorCommand, at_ms: int) -> Iterator[PaymentEvent]:
    """Records a command, and does it unless it is refused. Raises Impossible without a request id."""
    if not command.request_id:
        raise Impossible("a command of an operator without a request id")
    if command.request_id in payments.actions:
        return
    decided = _decided(payments, command, at_ms)
    if isinstance(decided, str):
        yield provider_events.operator_acted(command, decided)
        return
    yield provider_events.operator_acted(command, "")
    yield from decided()
    yield from next_steps(payments, command.action.order)


def _decided(payments: GroupPayments, command: OperatorCommand, at_ms: int) -> Decided:
    if not command.operator or not command.reason:
        return NOT_SIGNED
    action = command.action
    kind = action.WhichOneof("action")
    body: Any = getattr(action, str(kind))
    if kind == "adjust_ledger":
        return _adjust(body)
    if kind == "approve_adjustment":
        return _approve(payments, command)
    payment = payments.payment(action.order)
    if payment is None:
        return NO_PAYMENT
    return _ACTIONS[str(kind)](payments, payment, action.order, body, at_ms)


# Calls --------------------------------------------------------------------------------------------------------------


def _call_of(payment: Payment, operation: Operation.ValueType, attempt: int) -> Call | None:
    """The pending call; attempt 0: the first of this operation."""
    found = (one for one in payment.calls.values() if one.operation == operation and attempt in (0, one.attempt))
    return next(found, None)


def _retry(payments: GroupPayments, payment: Payment, order: str, body: pb.RetryCall, at_ms: int) -> Decided:
    call = _call_of(payment, body.operation, body.attempt)
    if call is not None:
        retried = events.call_retried(order, payment, call, call.attempt)
        return (lambda: iter((retried,))) if call.retry_at_ms else IN_FLIGHT
    waiting = [one for one in payment.debts.values() if one.next_ms or one.alarm]
    if body.operation != pb.OPERATION_REFUND or body.attempt or not waiting:
        return NO_CALL

    def refund() -> Iterator[PaymentEvent]:
        for debt in waiting:
            yield from owed.request(order, payment, debt)

    return refund


def _give_up(payments: GroupPayments, payment: Payment, order: str, body: pb.GiveUpCall, at_ms: int) -> Decided:
    call = _call_of(payment, body.operation, body.attempt) if body.attempt else None
    if call is None:
        return NO_CALL
    known = call

    def give_up() -> Iterator[PaymentEvent]:
        if known.operation == pb.OPERATION_REFUND:
            yield from owed.refund_refused(order, payment, known, GIVEN_UP, at_ms)
            debt = payment.debt(known.hold, known.refund)
            if debt is not None:
                yield provider_events.money_owed(order, _alarmed(debt))
            return
        if known.operation in HOLD_OPENING:
            yield from _close_request(order, payment)
        outcome = _outcome(order, known)
        if known.operation == pb.OPERATION_VOID:
            outcome.hold_gone.hold = known.hold
        else:
            outcome.declined.reason = GIVEN_UP
        yield from on_provider_result(payments, outcome, at_ms)

    return give_up


def _close_request(order: str, payment: Payment) -> Iterator[PaymentEvent]:
    """A request whose result is not known is given up: an alarm, and the shopper can't confirm any more."""
    hold, currency = payment.action_hold, payment.currency
    yield events.suspense_recorded(order, hold, 0, currency, UNKNOWN_HOLD)
    if hold and payment.pending_end(hold) is None:
        yield events.void_requested(order, payment, hold, 0, currency)


def _alarmed(debt: Owed) -> Owed:
    return Owed(debt.hold, debt.refund, debt.amount, debt.currency, debt.reason, debt.failures, 0, alarm=True)


def _outcome(order: str, call: Call) -> ProviderOutcome:
    return ProviderOutcome(
        order=order, operation=call.operation, attempt=call.attempt, origin=OUTCOME_ORIGIN_RECONCILIATION
    )


def _resolve(payments: GroupPayments, payment: Payment, order: str, body: pb.ResolveUnknown, at_ms: int) -> Decided:
    call = _call_of(payment, body.operation, body.attempt) if body.attempt else None
    if call is None:
        return NO_CALL
    hold = body.hold or call.hold
    if body.done and not hold:
        return NO_SUSPENSE if call.hold else NO_CALL
    outcome = _outcome(order, call)
    if not body.done:
        outcome.absent.SetInParent()
    elif call.operation in HOLD_OPENING:
        outcome.authorised.hold = hold
        outcome.authorised.amount_minor = call.amount
        outcome.authorised.currency = payment.currency
    elif call.operation == pb.OPERATION_CAPTURE:
        outcome.captured.hold = hold
        outcome.captured.amount_minor = call.amount
    elif call.operation == pb.OPERATION_VOID:
        outcome.voided.hold = hold
    else:
        outcome.refunded.hold = hold
        outcome.refunded.amount_minor = call.amount
    return lambda: on_provider_result(payments, outcome, at_ms)


# Members ------------------------------------------------------------------------------------------------------------


def _may_be_charged(payment: Payment) -> bool:
    return payment.intent is Intent.CAPTURE and not payment.captured and not payment.declined


def _release(payments: GroupPayments, payment: Payment, order: str, body: pb.ReleaseMember, at_ms: int) -> Decided:
    if not _may_be_charged(payment):
        return NOT_SETTLING
    if _call_of(payment, pb.OPERATION_CAPTURE, 0) is not None:
        return CAPTURE_PENDING

    def release() -> Iterator[PaymentEvent]:
        yield events.release_noted(order, payment)
        for call in tuple(payment.calls.values()):
            if call.retry_at_ms == NEVER_MS:
                # Its result is not known; the release follows from it.
                yield events.call_retried(order, payment, call, call.attempt)

    return release


def _fail(payments: GroupPayments, payment: Payment, order: str, body: pb.FailMember, at_ms: int) -> Decided:
    if not _may_be_charged(payment):
        return NOT_SETTLING
    if payment.pending_authorisation() is not None:
        return HOLD_PENDING
    return lambda: iter((events.capture_declined(order, payment.hold, FAILED),))


# Money --------------------------------------------------------------------------------------------------------------


def _returned_outside(
    payments: GroupPayments, payment: Payment, order: str, body: pb.MarkReturnedOutside, at_ms: int
) -> Decided:
    debts = [one for one in payment.debts.values() if body.hold in ("", one.hold) and one.refund == body.refund]
    if len(debts) != 1 or not 0 < body.amount_minor <= debts[0].amount:
        return NOT_OWED
    debt = debts[0]
    if not body.reference:
        return NO_REFERENCE
    if payment.pending_refund(debt.hold, debt.refund) is not None:
        return IN_FLIGHT

    def returned() -> Iterator[PaymentEvent]:
        yield provider_events.returned_outside(order, debt, body.amount_minor, body.reference)
        yield owed.lower(order, debt, body.amount_minor)

    return returned


def _approve_return(
    payments: GroupPayments, payment: Payment, order: str, body: pb.ApproveReturn, at_ms: int
) -> Decided:
    hold = payment.holds.get(body.hold)
    waiting = [one for one in payment.calls.values() if one.hold == body.hold and one.retry_at_ms and not one.approved]
    if hold is None or not hold.stray or not (hold.suspense or waiting):
        return NO_SUSPENSE

    def approve() -> Iterator[PaymentEvent]:
        yield provider_events.suspense_approved(order, body.hold)
        for call in waiting:
            yield events.call_retried(order, payment, call, call.attempt, approved=True)
        if hold.suspense:
            yield unexpected_funds.request_return(order, payment, body.hold, approved=True)

    return approve


def _keep(payments: GroupPayments, payment: Payment, order: str, body: pb.KeepSuspense, at_ms: int) -> Decided:
    hold = payment.holds.get(body.hold)
    if hold is None or not hold.suspense:
        return NO_SUSPENSE
    if not hold.suspense_taken:
        return ONLY_HELD
    if payment.disputed(body.hold):
        return IN_DISPUTE
    return lambda: iter((provider_events.suspense_kept(order, body.hold, hold.suspense, hold.currency),))


# The ledger ---------------------------------------------------------------------------------------------------------


def _adjust(body: pb.AdjustLedger) -> Decided:
    known = body.from_account in ACCOUNTS and body.to_account in ACCOUNTS and body.from_account != body.to_account
    if not known or body.amount_minor <= 0 or not body.currency:
        return NOT_AN_ADJUSTMENT
    return lambda: iter(())


def _approve(payments: GroupPayments, command: OperatorCommand) -> Decided:
    proposal = command.action.approve_adjustment.proposal
    wanted = payments.adjustments.get(proposal)
    if wanted is None:
        return NO_PROPOSAL
    if wanted.operator == command.operator:
        return SAME_OPERATOR
    return lambda: iter((provider_events.ledger_adjusted(proposal, wanted),))


_ACTIONS: dict[str, Callable[[GroupPayments, Payment, str, Any, int], Decided]] = {
    "retry_call": _retry,
    "give_up_call": _give_up,
    "release_member": _release,
    "fail_member": _fail,
    "mark_returned_outside": _returned_outside,
    "approve_return": _approve_return,
    "keep_suspense": _keep,
    "resolve_unknown": _resolve,
}
