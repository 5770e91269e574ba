"""The groups of the evening whose stories are worth reading, with links into the console, and how to open them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ops.audit.group.decisions import GroupFold
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import SeatState
from ops.demo.board import Board
from ops.demo.endings import Ending, ending
from ops.terminal.amounts import amount


class Kill(NamedTuple):
    """The service that was killed, and when, in milliseconds since the epoch."""

    service: str
    killed_ms: int


class Highlight(NamedTuple):
    """One group and why its story is worth reading."""

    group: GroupFold
    title: str
    why: str


#: Why a group is worth reading, and how much so; None: not for this reason.
_Judge = Callable[[GroupFold], tuple[float, str] | None]


def highlights(board: Board, kill: Kill | None) -> list[Highlight]:
    """For each reason the best group, and each group once."""
    found: list[Highlight] = []
    taken: set[str] = set()
    for judge in _judges(board, kill):
        judged = [
            (made[0], group.key, group, made[1])
            for group in board.pooled()
            if group.key not in taken and (made := judge(group)) is not None
        ]
        if judged:
            _, key, group, why = max(judged)
            taken.add(key)
            found.append(Highlight(group, board.title(group), why))
    return found


def _judges(board: Board, kill: Kill | None) -> Iterator[_Judge]:
    if kill is not None:
        yield lambda group: _lived_through(group, kill)
    yield lambda group: _unpaid(board, group)
    yield _late
    yield _full
    yield _short


def _lived_through(group: GroupFold, kill: Kill) -> tuple[float, str] | None:
    """A group that was open when the service was killed, and completed soon after its return."""
    if group.terms is None or group.state is not GroupState.COMPLETED:
        return None
    opened_ms = group.deadline_ms - group.terms.window_ms
    if not opened_ms < kill.killed_ms < group.closed_ms:
        return None
    after_s = (group.closed_ms - kill.killed_ms) / 1000
    why = f"open when {kill.service} was killed, and completed {after_s:.1f} s later with {_price(group)}"
    return -after_s, why


def _unpaid(board: Board, group: GroupFold) -> tuple[float, str] | None:
    """A completed group with members whose charge was declined."""
    count = sum(ending(group, seat) is Ending.UNPAID for seat in group.seats.values())
    if not count:
        return None
    sums = board.sums_of(group)
    return count, f"{_people(count)} could not be charged: {_amount(group, sums.unpaid)} unpaid, the others pay"


def _late(group: GroupFold) -> tuple[float, str] | None:
    """A completed group with money that came too late and was returned."""
    count = sum(ending(group, seat) is Ending.LATE for seat in group.seats.values())
    return (count, f"{_people(count)} too late for a full group: every hold released") if count else None


def _full(group: GroupFold) -> tuple[float, str] | None:
    """A completed group with many members."""
    if group.state is not GroupState.COMPLETED:
        return None
    return len(group.members), f"the largest: {_price(group)}"


def _short(group: GroupFold) -> tuple[float, str] | None:
    """A group that expired although it had members."""
    if group.state is not GroupState.EXPIRED:
        return None
    count = sum(seat.state is SeatState.RELEASED for seat in group.seats.values())
    return count, f"expired with {_people(count)}: every hold released in full"


def _price(group: GroupFold) -> str:
    return f"{_people(len(group.members))} at {_amount(group, group.unit_price_minor)}"


def _people(count: int) -> str:
    return "1 member" if count == 1 else f"{count} members"


def _amount(group: GroupFold, minor: int) -> str:
    return amount(minor, group.terms.currency) if group.terms is not None else str(minor)


def link(address: str, group: str) -> str:
    """The address of a group's story in the console at host:port."""
    return f"http://{address}/groups/{group}"
