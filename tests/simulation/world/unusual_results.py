"""Valid but rare results of provider calls, for instance a declined void, or a hold that is gone at its capture.

The provider's accounts are changed first, so that each reported result is true. A result that can't be made true is not
reported. The service's state is left alone.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, ProviderOutcome

from services.payments.domain.output.provider_calls import idempotency_key
from tests.simulation.world.processes import EffectsProcess
from tests.simulation.world.provider import Account
from tests.simulation.world.world import World

HOLDING = (pb.OPERATION_AUTHORISE, pb.OPERATION_SALE)


def unusual_result(world: World, pick: int) -> None:
    """Reports a rare result of a call, most often of one that is about to be made."""
    found = _calls(world, pick)
    if not found:
        return
    report_result(world, *found[pick % len(found)], UNUSUAL[pick // 64 % len(UNUSUAL)])


def report_result(world: World, call: ProviderCall, group: str, kind: str) -> bool:
    """Reports a result of a call if it can be made true. Returns whether it did."""
    outcome = ProviderOutcome(
        order=call.order, operation=call.operation, attempt=call.attempt, origin=OUTCOME_ORIGIN_NOTIFICATION
    )
    reported = _UNUSUAL[kind](world, call, outcome)
    if reported:
        world.coverage.count("fault", f"odd answer: {kind}")
        if call.operation == pb.OPERATION_REFUND and kind in _WITHOUT_EFFECT:
            world.auditor.on_refund_declined(group, call)
        if call.operation == pb.OPERATION_CHECK:
            # Which of the answers arrives first is open.
            world.provider.checked.setdefault(idempotency_key(call), set()).update((True, False))
        world.report(group, outcome)
    return reported


def _calls(world: World, pick: int) -> list[tuple[ProviderCall, str]]:
    if pick & 32:
        queued = [
            (call, group.decode())
            for process in world.slots.values()
            if isinstance(process, EffectsProcess)
            for lane in process.lanes.values()
            for group, call, _ in lane
        ]
        if queued:
            return queued
    # The calls made last.
    return list(world.provider.last.values())[: -6 if pick & 16 else None : -1]


def _account(world: World, call: ProviderCall) -> Account | None:
    """The hold that a call names or has made."""
    accounts = world.provider.accounts
    if call.operation not in HOLDING:
        return accounts.get(call.hold)
    return next((one for one in accounts.values() if one.made_by == call), None)


def _settles(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    """Makes an outcome the final result of a call. False: the call has a final result already.

    A confirmation that is still pending is cancelled.
    """
    known = world.provider.results.setdefault(idempotency_key(call), outcome)
    account = world.provider.accounts.get(known.action_required.hold)
    if account is not None and account.pending:
        account.pending = False
        world.provider.results[idempotency_key(call)] = known = outcome
    return known is outcome


def _declined(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    outcome.declined.reason = "not today"
    return _settles(world, call, outcome)


def _absent(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    outcome.absent.SetInParent()
    return _settles(world, call, outcome)


def _gone(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    account = _account(world, call)
    if account is not None and account.open and call.operation != pb.OPERATION_REFUND:
        account.release_open()
        account.until_ms = world.broker.now_ms
        outcome.hold_gone.hold = account.reference
        return True
    outcome.hold_gone.SetInParent()
    return call.operation in (*HOLDING, pb.OPERATION_REFUND) and _settles(world, call, outcome)


def _voided(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    account = _account(world, call)
    if account is not None and account.open:
        account.release_open()
        outcome.voided.hold = account.reference
        return True
    outcome.voided.SetInParent()
    # A refund can't be voided. The result is reported once, and the call keeps its own result.
    return call.operation == pb.OPERATION_REFUND or (call.operation in HOLDING and _settles(world, call, outcome))


def _captured(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    account = _account(world, call)
    if call.operation == pb.OPERATION_CAPTURE or account is None:
        return False
    if account.pending:
        if call.operation not in HOLDING or idempotency_key(call) not in world.provider.results:
            return False
        # The shopper has confirmed, and the provider has not reported it.
        world.provider.paid(call, account)
    if account.open:
        world.provider.take(account, account.open)
    outcome.captured.hold = account.reference
    outcome.captured.amount_minor = account.captured
    return account.captured > 0


def _action(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    account = _account(world, call)
    outcome.action_required.action_url = "https://confirm/again"
    if account is not None:
        outcome.action_required.hold = account.reference
    return True


def _refunded(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    outcome.refunded.amount_minor = 1
    return call.operation != pb.OPERATION_REFUND


def _authorised(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    """A hold was authorised: not a valid result of a capture, a void or a refund."""
    account = _account(world, call)
    if call.operation in HOLDING or account is None:
        return False
    outcome.authorised.hold = account.reference
    outcome.authorised.amount_minor = call.amount_minor
    outcome.authorised.currency = call.currency
    return True


def _later(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    outcome.retry_later.error = "busy"
    return True


_UNUSUAL: dict[str, Callable[[World, ProviderCall, ProviderOutcome], bool]] = {
    "declined": _declined,
    "absent": _absent,
    "hold_gone": _gone,
    "voided": _voided,
    "captured": _captured,
    "action_required": _action,
    "refunded": _refunded,
    "retry_later": _later,
    "authorised": _authorised,
}
#: Kinds that are drawn at random.
UNUSUAL = tuple(_UNUSUAL)[:-1]
#: Results that end a refund without an effect.
_WITHOUT_EFFECT = frozenset({"declined", "hold_gone"})
