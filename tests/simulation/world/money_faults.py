"""Faults of money, one function each: holds that lapse, unexpected funds and invalid claims.

Each fault changes the provider's accounts first, so its reports are true. The service's state is left alone.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, OUTCOME_ORIGIN_RECONCILIATION, ProviderOutcome

from services.payments.domain.state.model import SALE_PREFIX
from tests.simulation.world.provider import HOLD_LIFE_MS, Account
from tests.simulation.world.world import World


def _open_account(world: World, pick: int) -> Account | None:
    found = [one for one in world.provider.accounts.values() if one.open]
    return found[pick % len(found)] if found else None


def _lapse(reported: bool) -> Callable[[World, int], None]:
    def lapse(world: World, pick: int) -> None:
        account = _open_account(world, pick)
        if account is None:
            return
        world.coverage.count("fault", "hold lapsed, reported" if reported else "hold lapsed, not reported")
        account.release_open()
        account.until_ms = world.broker.now_ms
        if reported:
            outcome = _report(account.made_by)
            outcome.hold_gone.hold = account.reference
            world.report(account.group, outcome)

    return lapse


def _second_hold(world: World, pick: int) -> None:
    found = [one for one in world.provider.accounts.values() if one.held]
    if found:
        world.coverage.count("fault", "second hold of one order")
        first = found[pick % len(found)]
        hold_again(world, first.made_by, first.group)


def hold_again(world: World, call: ProviderCall, group: str) -> bool:
    """Holds or charges an order a second time. False: it was done already."""
    again = ProviderCall()
    again.CopyFrom(call)
    again.operation = pb.OPERATION_SALE if call.payment_method.startswith(SALE_PREFIX) else pb.OPERATION_AUTHORISE
    # A key that was not used: a provider has one hold for one key.
    again.attempt = 90
    again.amount_minor = call.amount_minor or 700
    return _hold(world, group, again, f"{call.order[:8]}.again")


def take_again(world: World, call: ProviderCall, group: str) -> bool:
    """Takes money for an order by an unknown payment. False: it was done already."""
    reference = f"{call.order[:8]}.taken"
    if reference in world.provider.accounts:
        return False
    account = world.provider.accounts[reference] = Account(reference, group, call, 0)
    account.take_up(call.amount_minor or 700, sale=True)
    outcome = _report(call)
    outcome.attempt = 90
    outcome.captured.hold = reference
    outcome.captured.amount_minor = account.captured
    outcome.captured.currency = call.currency
    world.report(group, outcome)
    return True


def _unknown_order(world: World, pick: int) -> None:
    world.coverage.count("fault", "money for an unknown order")
    group = world.plan.groups[pick % len(world.plan.groups)].group
    call = ghost_call(pick)
    call.operation = pb.OPERATION_SALE if pick & 16 else pb.OPERATION_AUTHORISE
    _hold(world, group, call, f"ghost.{pick}")


def ghost_call(pick: int) -> ProviderCall:
    """A call that was not made, for an order that was not placed."""
    call = ProviderCall(order=f"ghost-{pick}", attempt=1, amount_minor=700, currency="EUR", payment_method="card_ok")
    call.operation = pb.OPERATION_AUTHORISE
    return call


def _hold(world: World, group: str, call: ProviderCall, reference: str) -> bool:
    """Holds or takes money at the provider, and reports it. False: it was done already."""
    if reference in world.provider.accounts:
        return False
    account = Account(reference, group, call, world.broker.now_ms + HOLD_LIFE_MS)
    world.provider.accounts[reference] = account
    sale = call.operation == pb.OPERATION_SALE
    account.take_up(call.amount_minor, sale)
    outcome = _report(call)
    outcome.origin = OUTCOME_ORIGIN_RECONCILIATION
    outcome.authorised.hold = reference
    outcome.authorised.amount_minor = call.amount_minor
    outcome.authorised.currency = call.currency
    outcome.authorised.capturable_until_ms = 0 if sale else account.until_ms
    world.report(group, outcome)
    return True


def _unexpected_capture(world: World, pick: int) -> None:
    account = _open_account(world, pick)
    if account is not None:
        world.coverage.count("fault", "unexpected capture")
        amount = account.open
        world.provider.take(account, amount)
        outcome = _report(account.made_by)
        outcome.captured.hold = account.reference
        outcome.captured.amount_minor = amount
        world.report(account.group, outcome)


def _invalid_claim(world: World, pick: int) -> None:
    world.coverage.count("fault", "invalid claim")
    group = world.plan.groups[pick % len(world.plan.groups)].group
    outcome = ProviderOutcome(order=f"nobody-{pick}", operation=pb.OPERATION_AUTHORISE, attempt=1)
    outcome.authorised.amount_minor = 5
    world.auditor.misled.add(group)
    world.report(group, outcome)


def _report(call: ProviderCall) -> ProviderOutcome:
    return ProviderOutcome(
        order=call.order, operation=call.operation, attempt=call.attempt, origin=OUTCOME_ORIGIN_NOTIFICATION
    )


MONEY_FAULTS: dict[str, Callable[[World, int], None]] = {
    "lapse_reported": _lapse(True),
    "lapse_silent": _lapse(False),
    "second_hold": _second_hold,
    "unknown_money": _unknown_order,
    "unexpected_capture": _unexpected_capture,
    "nonsense": _invalid_claim,
}
