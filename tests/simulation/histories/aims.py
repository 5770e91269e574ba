"""Targets rows of the payments' table: finds an order in the row's status and sends it the row's input.

Random histories rarely reach most rows. A result of the provider is first booked at the provider, so that it is true; a
result that can't be booked is not sent. The state of payments is only read.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, RefundCommand

from services.payments.domain.state.status import Status
from services.payments.domain.transitions import STATES
from shared_kernel import topics
from tests.simulation.payment_rows import ROWS, Row, row_status
from tests.simulation.world.forged_records import forged_release, forged_settlement
from tests.simulation.world.money_faults import ghost_call, hold_again, take_again
from tests.simulation.world.unusual_results import report_result
from tests.simulation.world.world import World

#: Time between two searches for an order in a status without a call in flight, and number of searches.
SEARCH_INTERVAL_MS, SEARCHES = 60_000, 4
#: Statuses in the group of orders that a forged release may name. The group can't seat these again.
_TO_BE_RELEASED = frozenset({"SETTLING", "SETTLED", "CAPTURE_DECLINED"})

#: Statuses that hardly any row but this one leads to.
_LED_TO_BY = {"RETURNING": ("CAPTURED", "ReleaseRequested")}

#: (world, call, group, number for names) -> whether the input was sent.
Send = Callable[[World, ProviderCall, str, int], bool]


def aim(world: World, pick: int) -> None:
    """Sends the input of a row to an order in the row's status, at once or as soon as there is one."""
    row = AIMS[pick % len(AIMS)]
    if row[0] in _LED_TO_BY:
        _aim_at(world, _LED_TO_BY[row[0]], pick)
    _aim_at(world, row, pick)


def _aim_at(world: World, row: Row, pick: int) -> None:
    state, send = row[0], _sender_of(row)
    if state == "UNKNOWN":
        send(world, ghost_call(pick), world.plan.groups[pick % len(world.plan.groups)].group, pick)
        return

    def try_send(call: ProviderCall, group: str) -> bool:
        sent = send(world, call, group, pick)
        world.coverage.counts["fault", "aimed at a row"] += sent
        return sent

    def search(searches: int) -> None:
        calls = list(world.provider.last.values())
        if any(_status_of(world, call, group) == state and try_send(call, group) for call, group in calls):
            return
        if STATES[Status(state)].in_flight:
            if not world.aims:
                world.waiting.append(lambda call, group: _on_call(world, call, group))
            world.aims.setdefault(state, []).append(try_send)
        elif searches and not world.calm:
            world.after(SEARCH_INTERVAL_MS, lambda: search(searches - 1))

    search(SEARCHES)


def _status_of(world: World, call: ProviderCall, group: str) -> str:
    payments = world.payments_of(group)
    return row_status(payments.orders.get(call.order)) if payments is not None else ""


def _on_call(world: World, call: ProviderCall, group: str) -> bool:
    """Offers a call to all aims at its status. Returns whether no aim is left."""
    state = _status_of(world, call, group)
    waiting_aims = world.aims.pop(state, [])
    left = [try_send for try_send in waiting_aims if not try_send(call, group)]
    if left:
        world.aims[state] = left
    return not world.aims


# Inputs -------------------------------------------------------------------------------------------------------------


def _charge(world: World, call: ProviderCall, group: str, number: int) -> bool:
    return _put(world, group, forged_settlement(group, call.order))


def _release(world: World, call: ProviderCall, group: str, number: int) -> bool:
    if world.auditor.status(group, call.order) not in _TO_BE_RELEASED:
        return False
    return _put(world, group, forged_release(group, call.order))


def _refund(world: World, call: ProviderCall, group: str, number: int) -> bool:
    command = RefundCommand(order=call.order, refund=f"aimed-{number}", request_sha256=b"x")
    world.tell_payments(group, PaymentInput(refund=command))
    return True


def _put(world: World, group: str, value: bytes) -> bool:
    world.broker.append(topics.PAYMENT_INBOX.name, world.keys[group], group.encode(), value)
    return True


_COMMANDS: dict[str, Send] = {
    "SettlementRequested": _charge,
    "ReleaseRequested": _release,
    "RefundCommand": _refund,
    "SecondHold": lambda world, call, group, number: hold_again(world, call, group),
}


def _sender_of(row: Row) -> Send:
    _, input_kind = row
    if input_kind == "Captured" and ROWS[row][0] == "SuspenseRecorded":
        return lambda world, call, group, number: take_again(world, call, group)
    return _COMMANDS.get(input_kind) or (
        lambda world, call, group, number: report_result(world, call, group, _KINDS[input_kind])
    )


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
    """Whether ordinary histories rarely reach the row."""
    state, input_kind = row
    if input_kind == "Authorised":
        return leads_to == ["CallDeferred"]
    if input_kind == "SettlementRequested":
        return leads_to[0] == "SuspenseRecorded"
    if input_kind == "ReleaseRequested":
        return state in ("CAPTURING", "RENEWING", "CAPTURED", "REFUNDING", "CAPTURE_DECLINED", "SALE_SETTLING")
    return input_kind not in ("SeatReserved", "Tick", leads_to[0])


AIMS = tuple(row for row, leads_to in ROWS.items() if _is_rare(row, leads_to))
