"""Bytes of a group in the state directory: msgpack of known types, and nothing else can be read from it.

`customers` is not kept: it follows from the seats and the waiting list. Terms are kept as their message's bytes, and
groups with the same terms share one object in memory.
"""

from __future__ import annotations

from typing import TypeAlias

from eventlog.records.packed import Packed
from services.groups.domain.model import Phase, Seat, State, WaitlistEntry
from services.groups.domain.terms import terms_of

#: Values of a state in the order in which `encode` lists them. A change needs a new stamp.
_Kept: TypeAlias = tuple[
    Phase,
    bytes | None,  # terms
    str,  # leader
    int,  # opened_ms
    int,  # deadline_ms
    dict[str, Seat],  # reserved
    dict[str, Seat],  # confirmed
    dict[str, WaitlistEntry],  # waiting
    dict[str, int],  # ended
    int,  # tiers_reached
    int,  # seated_ms
    int,  # members
    int,  # unit_price_minor
    int,  # settled
    int,  # failed
    int,  # captured_minor
    int,  # unreleased
]
_PACKED: Packed[_Kept] = Packed(_Kept)


def encode(state: State) -> bytes:
    """Bytes of a group. The order of its mappings is kept."""
    terms = state.terms
    return _PACKED.encode(
        (
            state.phase,
            None if terms is None else terms.raw,
            state.leader,
            state.opened_ms,
            state.deadline_ms,
            state.reserved,
            state.confirmed,
            state.waiting,
            state.ended,
            state.tiers_reached,
            state.seated_ms,
            state.members,
            state.unit_price_minor,
            state.settled,
            state.failed,
            state.captured_minor,
            state.unreleased,
        )
    )


def decode(value: bytes) -> State:
    """The group that was encoded. Raises msgspec.DecodeError, DecodeError of its terms, and UnknownRules."""
    (phase, terms, leader, opened_ms, deadline_ms, reserved, confirmed, waiting, ended, *numbers) = _PACKED.decode(
        value
    )
    customers: dict[str, int] = {}
    if phase is Phase.FORMING:
        for held in (reserved, confirmed, waiting):
            for one in held.values():
                customers[one.customer] = customers.get(one.customer, 0) + 1
    return State(
        phase,
        None if terms is None else terms_of(terms),
        leader,
        opened_ms,
        deadline_ms,
        reserved,
        confirmed,
        waiting,
        customers,
        ended,
        *numbers,
    )
