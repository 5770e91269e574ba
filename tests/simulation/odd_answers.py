"""Answers that a call can have but hardly ever has: refused where it was to let go, let go where it was to take.

Each is made true in the provider's books before it is told; one that can't be made true is not told. Must never touch
the purse's books.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, ProviderOutcome

from services.payments.domain.calls import key
from tests.simulation.processes import EffectsProcess
from tests.simulation.provider import Account
from tests.simulation.world import World

ASKING = (pb.OPERATION_AUTHORISE, pb.OPERATION_SALE)


def odd_answer(world: World, pick: int) -> None:
    """The provider says something unusual about a call, most often one that is about to be made."""
    found = _calls(world, pick)
    if not found:
        return
    call, group = found[pick % len(found)]
    name, tell = _ODD[pick // 64 % len(_ODD)]
    outcome = ProviderOutcome(
        order=call.order, operation=call.operation, attempt=call.attempt, origin=OUTCOME_ORIGIN_NOTIFICATION
    )
    if tell(world, call, outcome):
        world.coverage.count("fault", f"odd answer: {name}")
        if call.operation == pb.OPERATION_REFUND and name in _REFUSALS:
            world.auditor.refused_there(group, call)
        world.tell(group, outcome)


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
    """It stays the answer, if there was none yet."""
    return world.provider.results.setdefault(key(call), outcome) is outcome


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
    if call.operation == pb.OPERATION_CAPTURE or account is None or account.pending:
        return False
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


def _later(world: World, call: ProviderCall, outcome: ProviderOutcome) -> bool:
    outcome.retry_later.error = "busy"
    return True


_ODD: tuple[tuple[str, Callable[[World, ProviderCall, ProviderOutcome], bool]], ...] = (
    ("declined", _declined),
    ("absent", _absent),
    ("hold gone", _gone),
    ("voided", _voided),
    ("captured", _captured),
    ("action required", _action),
    ("refunded", _refunded),
    ("retry later", _later),
)
#: What ends a refund without an effect.
_REFUSALS = frozenset({"declined", "hold gone"})
NAMES = tuple(f"odd answer: {name}" for name, _ in _ODD)
