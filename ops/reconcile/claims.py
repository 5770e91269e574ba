"""Claims: provider outcomes that a statement shows and our ledger does not have, in the form of a notification.

The payments' decider interprets them. A claim is made only for money that the statement has and our books lack.
"""

from __future__ import annotations

from collections.abc import Iterable

from groupbuy.payments.v1.decisions_pb2 import OPERATION_AUTHORISE, OPERATION_CAPTURE, OPERATION_VOID, Operation
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_RECONCILIATION,
    OutcomeAuthorised,
    OutcomeCaptured,
    ProviderOutcome,
)
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.repair.findings import SendFinding
from services.payments.domain.addressing import address_of
from shared_kernel.payment_providers import SIMULATED, provider_of


def of_unknown(theirs: StatementEntry) -> ProviderOutcome | None:
    """The claim for a hold that our books don't have; None if it can't be returned in full."""
    if theirs.refunded_minor:
        return None
    return _taken(theirs) if theirs.captured_minor else _held(theirs)


def of_known(theirs: StatementEntry, order: str, *, held_here: int, captured_here: int) -> ProviderOutcome | None:
    """The claim for a hold of an order that has progressed further at the provider; None if payments would not book it.

    Amounts are in minor units.
    """
    if theirs.refunded_minor or captured_here:
        return None
    if theirs.captured_minor:
        made = _taken(theirs)
    elif held_here and not theirs.open_minor:
        made = _over(theirs)
    else:
        return None
    made.order = order
    return made


def provider_name(theirs: StatementEntry) -> str:
    """Name of the provider of an entry."""
    return theirs.wire or SIMULATED


def _claim(theirs: StatementEntry, operation: Operation.ValueType) -> ProviderOutcome:
    method = f"{provider_name(theirs)}_"
    origin = OUTCOME_ORIGIN_RECONCILIATION
    return ProviderOutcome(order=theirs.order, operation=operation, origin=origin, payment_method=method)


def _taken(theirs: StatementEntry) -> ProviderOutcome:
    made = _claim(theirs, OPERATION_CAPTURE)
    _set_money(made.captured, theirs, theirs.captured_minor)
    return made


def _held(theirs: StatementEntry) -> ProviderOutcome:
    # Whether it is still open or not: payments requests a void and books the result.
    made = _claim(theirs, OPERATION_AUTHORISE)
    _set_money(made.authorised, theirs, theirs.authorised_minor)
    return made


def _over(theirs: StatementEntry) -> ProviderOutcome:
    made = _claim(theirs, OPERATION_VOID)
    made.hold_gone.hold = theirs.hold
    return made


def _set_money(result: OutcomeAuthorised | OutcomeCaptured, theirs: StatementEntry, amount_minor: int) -> None:
    result.hold = theirs.hold
    result.amount_minor = amount_minor
    result.currency = theirs.currency


def addressed(group: str, claim: ProviderOutcome) -> tuple[str, ProviderOutcome]:
    """The group and the claim with ids of ours. Missing ids are derived, as those of the provider's notifications."""
    made = ProviderOutcome()
    made.CopyFrom(claim)
    group, made.order = address_of(provider_of(claim.payment_method), group, claim)
    return group, made


async def feed(claims: Iterable[tuple[str, ProviderOutcome]], send: SendFinding) -> int:
    """Sends claims, each with its group. Returns their number."""
    count = 0
    for group, claim in claims:
        await send(*addressed(group, claim))
        count += 1
    return count
