"""Encoding of a group in the state directory: msgpack of a fixed tuple of types.

`customers` is not stored, because it follows from seats and waitlist. Terms are stored as encoded message; groups with
equal terms share one object in memory.
"""

from __future__ import annotations

from typing import TypeAlias

from eventlog.records.packed import Packed
from services.groups.domain.model import Phase, Seat, State, Supply, WaitlistEntry
from services.groups.domain.terms import terms_of

#: Values of a state in the order of `encode`. A change needs a new STATE_STAMP.
_Values: TypeAlias = tuple[
    Phase,
    bytes | None,  # terms
    str,  # leader
    int,  # opened_ms
    int,  # deadline_ms
    dict[str, Seat],  # reserved
    dict[str, Seat],  # confirmed
    dict[str, WaitlistEntry],  # waitlist
    dict[str, int],  # ended
    int,  # tiers_reached
    int,  # seated_ms
    int,  # members
    int,  # unit_price_minor
    int,  # settled
    int,  # declined
    int,  # captured_minor
    int,  # unreleased
    Supply | None,
    dict[str, int],  # owed
    int,  # charged_pieces
    int,  # owed_version
]
_PACKED: Packed[_Values] = Packed(_Values)


def encode(state: State) -> bytes:
    """Encodes a group, with the order of its mappings."""
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
            state.waitlist,
            state.ended,
            state.tiers_reached,
            state.seated_ms,
            state.members,
            state.unit_price_minor,
            state.settled,
            state.declined,
            state.captured_minor,
            state.unreleased,
            state.supply,
            state.owed,
            state.charged_pieces,
            state.owed_version,
        )
    )


def decode(value: bytes) -> State:
    """Decodes a group. Raises msgspec.DecodeError, protobuf's DecodeError for its terms, and UnknownRules."""
    values = _PACKED.decode(value)
    phase, terms, leader, opened_ms, deadline_ms, reserved, confirmed, waitlist, ended = values[:9]
    customers: dict[str, int] = {}
    if phase is Phase.FORMING:
        for held in (reserved, confirmed, waitlist):
            for entry in held.values():
                customers[entry.customer] = customers.get(entry.customer, 0) + 1
    state = State(
        phase,
        None if terms is None else terms_of(terms),
        leader,
        opened_ms,
        deadline_ms,
        reserved,
        confirmed,
        waitlist,
        customers,
        ended,
    )
    (
        state.tiers_reached,
        state.seated_ms,
        state.members,
        state.unit_price_minor,
        state.settled,
        state.declined,
        state.captured_minor,
        state.unreleased,
        state.supply,
        state.owed,
        state.charged_pieces,
        state.owed_version,
    ) = values[9:]
    return state
