"""Answers that a call can have but hardly ever has: refused where it was to let go, let go where it was to take.

Each is made true in the provider's books before it is told; one that can't be made true is not told. Must never touch
the purse's books.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, ProviderOutcome

from services.payments.domain.events import idempotency_key
from tests.simulation.world.processes import EffectsProcess
from tests.simulation.world.provider import Account
from tests.simulation.world.world import World

ASKING = (pb.OPERATION_AUTHORISE, pb.OPERATION_SALE)


def odd_answer(world: World, pick: int) -> None:
    """The provider says something unusual about a call, most often one that is about to be made."""
    found = _calls(world, pick)
    if not found:
        return
    answer(world, *found[pick % len(found)], ODD[pick // 64 % len(ODD)])


def answer(world: World, call: ProviderCall, group: str, kind: str) -> bool:
    """The provider says this of a call, if it can be made true. Returns whether it did."""
    outcome = ProviderOutcome(
        order=call.order, operation=call.operation, attempt=call.attempt, origin=OUTCOME_ORIGIN_NOTIFICATION
    )
    made_true = _ODD[kind](world, call, outcome)
    if made_true:
        world.coverage.count("fault", f"odd answer: {kind}")
        if call.operation == pb.OPERATION_REFUND and kind in _REFUSALS:
            world.auditor.refused_there(group, call)
        world.tell(group, outcome)
    return made_true


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
    # Those made last come first.
    return list(world.provider.last.values())[: -6 if pick & 16 else None : -1]


def _account(world: World, call: ProviderCall) -> Account | None:
    """The hold that a call is about, or has made."""
    accounts = world.provider.accounts
    if call.operation not in ASKING:
        return accounts.get(call.hold)
    return next((one for one in accounts.values() if one.made_by == call), None)


def _settles(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    """It stays the answer, if there was none yet, or only that the shopper must confirm, who then no longer can."""
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
        account.let_go()
        account.until_ms = world.broker.now_ms
        outcome.hold_gone.hold = account.reference
        return True
    outcome.hold_gone.SetInParent()
    return call.operation in (*ASKING, pb.OPERATION_REFUND) and _settles(world, call, outcome)


def _voided(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    account = _account(world, call)
    if account is not None and account.open:
        account.let_go()
        outcome.voided.hold = account.reference
        return True
    outcome.voided.SetInParent()
    # Of a refund it makes no sense, and is said once: the call itself still has its answer.
    return call.operation == pb.OPERATION_REFUND or (call.operation in ASKING and _settles(world, call, outcome))


def _captured(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    account = _account(world, call)
    if call.operation == pb.OPERATION_CAPTURE or account is None:
        return False
    if account.pending:
        if call.operation not in ASKING or idempotency_key(call) not in world.provider.results:
            return False
        # The shopper confirms, and nobody says so.
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
    """Of a call that ends a hold, or gives money back, it makes no sense."""
    account = _account(world, call)
    if call.operation in ASKING or account is None:
        return False
    outcome.authorised.hold = account.reference
    outcome.authorised.amount_minor = call.amount_minor
    outcome.authorised.currency = call.currency
    return True


def _later(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    outcome.retry_later.error = "busy"
    return True


_ODD: dict[str, Callable[[World, ProviderCall, ProviderOutcome], bool]] = {
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
#: Kinds that are drawn by chance.
ODD = tuple(_ODD)[:-1]
#: What ends a refund without an effect.
_REFUSALS = frozenset({"declined", "hold_gone"})
