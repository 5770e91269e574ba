"""Aiming at a row of the payments' table: an order is looked for that is in the row's state, and told the row's input.

Chance alone hardly meets most of them. What the provider says is made true in its books first; what can't be made true
of an order is not told. Must never change a purse.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, RefundCommand

from services.payments.domain.status import Status
from services.payments.domain.transitions import STATES
from shared_kernel import topics
from tests.simulation.payment_rows import ROWS, Row, row_status
from tests.simulation.world.lies import false_charge, false_release
from tests.simulation.world.money_faults import ghost_call, hold_again, take_again
from tests.simulation.world.odd_answers import answer
from tests.simulation.world.world import World

#: How long an aim waits before it looks again for an order in a state without a call under way, and how often.
LOOK_AGAIN_MS, LOOKS = 60_000, 4
#: Orders that the group may be said to have let go: later it can't have them back.
_TO_BE_RELEASED = frozenset({"SETTLING", "SETTLED", "CAPTURE_DECLINED"})

#: States that hardly anything but this other row leads to.
_LED_TO_BY = {"RETURNING": ("CAPTURED", "ReleaseRequested")}

#: (world, call, group, number for names) -> whether it was told.
Shot = Callable[[World, ProviderCall, str, int], bool]


def aim(world: World, pick: int) -> None:
    """Tells an order the input of some row, at once or as soon as one is in the row's state."""
    row = AIMS[pick % len(AIMS)]
    if row[0] in _LED_TO_BY:
        _aim_at(world, _LED_TO_BY[row[0]], pick)
    _aim_at(world, row, pick)


def _aim_at(world: World, row: Row, pick: int) -> None:
    state, shot = row[0], _shot(row)
    if state == "UNKNOWN":
        shot(world, ghost_call(pick), world.plan.groups[pick % len(world.plan.groups)].group, pick)
        return

    def hits(call: ProviderCall, group: str) -> bool:
        hit = shot(world, call, group, pick)
        world.coverage.counts["fault", "aimed at a row"] += hit
        return hit

    def look(looks: int) -> None:
        made = list(world.provider.last.values())
        if any(_state(world, call, group) == state and hits(call, group) for call, group in made):
            return
        if STATES[Status(state)].in_flight:
            if not world.aims:
                world.waiting.append(lambda call, group: _overhear(world, call, group))
            world.aims.setdefault(state, []).append(hits)
        elif looks and not world.calm:
            world.after(LOOK_AGAIN_MS, lambda: look(looks - 1))

    look(LOOKS)


def _state(world: World, call: ProviderCall, group: str) -> str:
    purse = world.purse(group)
    return row_status(purse.orders.get(call.order)) if purse is not None else ""


def _overhear(world: World, call: ProviderCall, group: str) -> bool:
    """A call of some order: whoever aims at its state has a shot at it. Returns whether nobody aims any more."""
    state = _state(world, call, group)
    aiming = world.aims.pop(state, [])
    left = [hits for hits in aiming if not hits(call, group)]
    if left:
        world.aims[state] = left
    return not world.aims


# Shots --------------------------------------------------------------------------------------------------------------


def _charge(world: World, call: ProviderCall, group: str, number: int) -> bool:
    return _put(world, group, false_charge(group, call.order))


def _release(world: World, call: ProviderCall, group: str, number: int) -> bool:
    placed = world.auditor.group(group).orders.get(call.order)
    if placed is None or placed.status not in _TO_BE_RELEASED:
        return False
    return _put(world, group, false_release(group, call.order))


def _refund(world: World, call: ProviderCall, group: str, number: int) -> bool:
    command = RefundCommand(order=call.order, refund=f"aimed-{number}", request_sha256=b"x")
    return _put(world, group, PaymentInput(refund=command).SerializeToString())


def _put(world: World, group: str, value: bytes) -> bool:
    world.broker.append(topics.PAYMENT_INBOX.name, world.keys[group], group.encode(), value)
    return True


_COMMANDS: dict[str, Shot] = {
    "SettlementRequested": _charge,
    "ReleaseRequested": _release,
    "RefundCommand": _refund,
    "SecondHold": lambda world, call, group, number: hold_again(world, call, group),
}


def _shot(row: Row) -> Shot:
    _, told = row
    if told == "Captured" and ROWS[row][0] == "SuspenseRecorded":
        return lambda world, call, group, number: take_again(world, call, group)
    return _COMMANDS.get(told) or (lambda world, call, group, number: answer(world, call, group, _KINDS[told]))


_KINDS = {
    "Authorised": "authorised",
    "ActionRequired": "action_required",
    "Declined": "declined",
    "Captured": "captured",
    "Voided": "voided",
    "Refunded": "refunded",
    "Absent": "absent",
    "HoldGone": "hold_gone",
    "RetryLater": "retry_later",
}


def _is_rare(row: Row, leads_to: list[str]) -> bool:
    """Whether it is not what ordinary evenings are made of."""
    state, told = row
    if told == "Authorised":
        return leads_to == ["CallDeferred"]
    if told == "SettlementRequested":
        return leads_to == ["Faulted"]
    if told == "ReleaseRequested":
        return state in ("CAPTURING", "RENEWING", "CAPTURED", "REFUNDING", "CAPTURE_DECLINED", "SALE_SETTLING")
    return told not in ("SeatReserved", "Tick", leads_to[0])


AIMS = tuple(row for row, leads_to in ROWS.items() if _is_rare(row, leads_to))
