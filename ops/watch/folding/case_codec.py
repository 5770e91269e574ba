"""Encodes the case of a group for the state directory of watch. A decoded case continues exactly where it was."""

from __future__ import annotations

from msgspec import Struct

from eventlog.records.packed import Packed
from ops.audit.cases import Case, Placed, RefundInput
from ops.audit.chain import Chain
from ops.audit.findings import Findings
from ops.audit.group.membership import GroupState
from ops.audit.group.pieces import Supply
from ops.audit.group.seats import Seat
from ops.audit.group.terms import frozen
from ops.audit.money.holds import Payment
from ops.watch.folding.summary import Summary

#: Identifies the rows of a state directory. Change it with every change of the rows' meaning: the logs are then folded
#: again.
STAMP = "watch-4"


class _Row(Struct, array_like=True):
    """A case and its summary as of its last evaluation."""

    summary: Summary
    at_ms: int
    placed: dict[str, Placed]
    unreadable: set[str]
    cancel_requested: set[str]
    completion_input: int
    refunds: dict[str, RefundInput]
    # The group.
    chain: Chain
    state: GroupState
    #: Empty: no terms yet.
    terms: bytes
    deadline_ms: int
    closed_ms: int
    leader_order: str
    seats: dict[str, Seat]
    by_customer: dict[str, int]
    #: In the order of their events.
    reserved: list[str]
    waiting: list[str]
    #: In the order of confirmation.
    confirmed: list[str]
    tiers_reached: int
    members: tuple[str, ...]
    unit_price_minor: int
    completed_version: int
    settled: bool
    faulted: str
    supply: Supply | None
    # The payments.
    payments_chain: Chain
    payments: dict[str, Payment]
    rules_version: int
    payments_faulted: str
    proposals: dict[str, str]
    acted: set[str]


_PACKED: Packed[_Row] = Packed(_Row)


def encode(case: Case, summary: Summary) -> bytes:
    """The row of a case."""
    group, money = case.group, case.group_payments
    return _PACKED.encode(
        _Row(
            summary,
            case.at_ms,
            case.placed,
            case.unreadable,
            case.cancel_requested,
            case.completion_input,
            case.refunds,
            group.chain,
            group.state,
            b"" if group.terms is None else group.terms.raw,
            group.deadline_ms,
            group.closed_ms,
            group.leader_order,
            group.seats,
            group.by_customer,
            list(group.reserved),
            list(group.waiting),
            list(group.confirmed),
            group.tiers_reached,
            group.members,
            group.unit_price_minor,
            group.completed_version,
            group.settled,
            group.faulted,
            group.supply,
            money.chain,
            money.payments,
            money.rules_version,
            money.faulted,
            money.proposals,
            money.acted,
        )
    )


def decode(key: str, row: bytes, findings: Findings) -> tuple[Case, Summary]:
    """The case in a row, which reports to `findings`, and its summary. Raises msgspec.DecodeError."""
    stored = _PACKED.decode(row)
    case = Case(key, findings)
    case.at_ms = stored.at_ms
    case.placed = stored.placed
    case.unreadable = stored.unreadable
    case.cancel_requested = stored.cancel_requested
    case.completion_input = stored.completion_input
    case.refunds = stored.refunds
    group, money = case.group, case.group_payments
    group.chain = stored.chain
    group.state = stored.state
    group.terms = frozen(stored.terms) if stored.terms else None
    group.deadline_ms = stored.deadline_ms
    group.closed_ms = stored.closed_ms
    group.leader_order = stored.leader_order
    group.seats = stored.seats
    group.by_customer = stored.by_customer
    group.reserved = dict.fromkeys(stored.reserved)
    group.waiting = dict.fromkeys(stored.waiting)
    group.tiers_reached = stored.tiers_reached
    group.confirmed = dict.fromkeys(stored.confirmed)
    group.members = stored.members
    group.unit_price_minor = stored.unit_price_minor
    group.completed_version = stored.completed_version
    group.settled = stored.settled
    group.faulted = stored.faulted
    group.supply = stored.supply
    money.chain = stored.payments_chain
    money.payments = stored.payments
    money.rules_version = stored.rules_version
    money.faulted = stored.payments_faulted
    money.proposals = stored.proposals
    money.acted = stored.acted
    return case, stored.summary
