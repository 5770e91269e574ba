"""What operators do: commands for random payments that are not finished, and repairs at the end of a history.

Groups whose payments have version 1 of the rules are left alone. The service's state is only read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import OperatorAction, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OperatorCommand, PaymentInput, ProviderOutcome

from services.payments.domain.output.provider_calls import idempotency_key
from services.payments.domain.state.model import Call, Payment
from services.payments.domain.state.provider_life import NEVER_MS
from tests.simulation.world.late_refunds import report_late_success
from tests.simulation.world.world import World


def command(world: World, group: str, order: str, operator: str = "ann", **action: Any) -> str:
    """Appends an operator's command; returns its request id."""
    world.commands += 1
    made = OperatorCommand(request_id=f"command {world.commands}", operator=operator, reason="stuck")
    made.action.CopyFrom(OperatorAction(order=order, **action))
    for _ in range(1 + (world.commands % 3 == 0)):
        world.tell_payments(group, PaymentInput(operator=made))
    return made.request_id


def _live(world: World, *, forged: bool = False) -> Iterator[tuple[str, str, Payment]]:
    """Payments that are not finished, with orders that have `forged` records or without them."""
    for plan in world.plan.groups:
        payments = world.payments_of(plan.group)
        if payments is None or payments.rules_version < 2:
            continue
        for order, payment in payments.orders.items():
            if isinstance(payment, Payment) and (forged or (plan.group, order) not in world.auditor.forged):
                yield plan.group, order, payment


def act(world: World, pick: int) -> None:
    """An operator acts on a random payment that is not finished."""
    found = list(_live(world))
    if not found:
        return
    group, order, payment = found[pick % len(found)]
    waiting = [one for one in found if one[2].debts or any(hold.suspense for hold in one[2].holds.values())]
    if waiting and pick & 1:
        group, order, payment = waiting[pick % len(waiting)]
    world.coverage.count("fault", "operator")
    hold = next((name for name, one in payment.holds.items() if one.suspense), payment.hold)
    debt = next(iter(payment.debts.values()), None)
    match 1 if debt is not None and pick & 3 == 1 else pick // 8 % 8:
        case 0:
            command(world, group, order, retry_call=pb.RetryCall(operation=pb.OPERATION_REFUND))
        case 1:
            body = pb.MarkReturnedOutside(amount_minor=1, reference="transfer")
            if debt is not None:
                body.hold, body.refund = debt.hold, debt.refund
                body.amount_minor = (debt.amount, max(debt.amount // 2, 1), debt.amount + 1)[pick // 2 % 3]
            command(world, group, order, mark_returned_outside=body)
            refused = world.provider.last.get(order)
            if refused is not None and refused[0].operation == pb.OPERATION_REFUND and pick & 0x200000:
                # The transfer was made too early: the refund itself succeeds after all.
                world.after(1 + pick % 100_000, lambda: report_late_success(world, *refused))
        case 2:
            command(world, group, order, approve_return=pb.ApproveReturn(hold=hold))
        case 3:
            command(world, group, order, keep_suspense=pb.KeepSuspense(hold=hold))
        case 4:
            wanted = pb.AdjustLedger(from_account=4, to_account=11, amount_minor=1 + pick % 9, currency="EUR")
            proposal = command(world, group, order, adjust_ledger=wanted)
            who = "ann" if pick & 2 else "bob"
            command(world, group, order, who, approve_adjustment=pb.ApproveAdjustment(proposal=proposal))
        case 5:
            command(world, group, order, release_member=pb.ReleaseMember())
        case 6:
            command(world, group, order, fail_member=pb.FailMember())
        case _ if pick & 64:
            _resolve(world, found)
        case _:
            _give_up_refund(world, found)


#: The result of each operation that was done.
_DONE = {
    pb.OPERATION_AUTHORISE: "authorised",
    pb.OPERATION_SALE: "authorised",
    pb.OPERATION_CAPTURE: "captured",
    pb.OPERATION_VOID: "voided",
    pb.OPERATION_REFUND: "refunded",
}


def _resolve(world: World, found: list[tuple[str, str, Payment]]) -> None:
    """An operator sees at the provider that a call whose result is unknown was done."""
    for group, order, payment in found:
        for call in payment.calls.values():
            made = ProviderCall(order=order, operation=call.operation, attempt=call.attempt)
            known = world.provider.results.get(idempotency_key(made))
            done = _DONE.get(call.operation)
            if call.retry_at_ms and known is not None and done is not None and known.HasField(done):  # type: ignore[arg-type] # one of the results
                body = pb.ResolveUnknown(operation=call.operation, attempt=call.attempt, done=True)
                body.hold = getattr(known, done).hold
                command(world, group, order, resolve_unknown=body)
                return


def _give_up_refund(world: World, found: list[tuple[str, str, Payment]]) -> None:
    """An operator gives up a pending refund that the provider has not made, and will not make."""
    for group, order, payment in found:
        for call in payment.calls.values():
            if call.operation == pb.OPERATION_REFUND and _give_up(world, group, order, call):
                return


def _give_up(world: World, group: str, order: str, call: Call) -> bool:
    if not _refuse(world, group, order, call):
        return False
    command(world, group, order, give_up_call=pb.GiveUpCall(operation=call.operation, attempt=call.attempt))
    return True


def _refuse(world: World, group: str, order: str, call: Call) -> bool:
    """The provider refuses a refund for good, unless it has made it."""
    made = ProviderCall(order=order, operation=call.operation, attempt=call.attempt)
    refused = ProviderOutcome(order=order, operation=call.operation, attempt=call.attempt)
    refused.declined.reason = "cancelled by the operator"
    if not world.provider.results.setdefault(idempotency_key(made), refused).HasField("declined"):
        return False
    world.auditor.on_refund_declined(group, ProviderCall(order=order, amount_minor=call.amount))
    return True


def attend(world: World, pick: int) -> None:
    """The next call of a kind has no result; half a minute later an operator acts on it."""
    wanted = (pb.OPERATION_REFUND, pb.OPERATION_CAPTURE, pb.OPERATION_REFUND, pb.OPERATION_VOID)[pick % 4]

    def stick(call: ProviderCall, group: str) -> bool:
        case = world.auditor.case(group)
        if call.operation != wanted or case is None or case.group_payments.rules_version < 2:
            return False
        world.provider.stuck.add(idempotency_key(call))
        world.after(30_000, lambda: _attend(world, group, call, pick // 4))
        return True

    world.waiting.append(stick)


def _attend(world: World, group: str, made: ProviderCall, pick: int) -> None:
    world.provider.stuck.discard(idempotency_key(made))
    payments, order = world.payments_of(group), made.order
    payment = payments.payment(order) if payments is not None else None
    call = payment.calls.get((made.operation, made.attempt)) if payment is not None else None
    if call is None or (group, order) in world.auditor.forged:
        return
    world.coverage.count("fault", "operator attends a call")
    if made.operation == pb.OPERATION_REFUND and pick % 3 == 0 and _give_up(world, group, order, call):
        return
    if made.operation == pb.OPERATION_REFUND and pick % 3 == 1:
        if pick & 1:
            # The sum is owed when the member is released.
            _refuse(world, group, order, call)
        world.after(30_000, lambda: _release(world, group, order))
    elif made.operation == pb.OPERATION_CAPTURE and pick % 2:
        command(world, group, order, fail_member=pb.FailMember())
    else:
        command(world, group, order, retry_call=pb.RetryCall(operation=made.operation, attempt=made.attempt))


def _release(world: World, group: str, order: str) -> None:
    command(world, group, order, release_member=pb.ReleaseMember())


def repair(world: World) -> bool:
    """At the end: operators retry what no longer follows by itself. Returns whether there was anything."""
    found = False
    for group, order, payment in _live(world, forged=True):
        for call in payment.calls.values():
            if call.retry_at_ms == NEVER_MS:
                found = True
                body = pb.RetryCall(operation=call.operation, attempt=call.attempt)
                command(world, group, order, retry_call=body)
        if any(one.alarm for one in payment.debts.values()):
            found = True
            command(world, group, order, retry_call=pb.RetryCall(operation=pb.OPERATION_REFUND))
    return found
