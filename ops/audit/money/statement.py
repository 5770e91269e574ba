"""Compares the provider's statement with the payment log, hold by hold and in minor units.

Differences are not netted: two errors that cancel out are two violations.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

import grpc
from groupbuy.simprovider.v1.simprovider_pb2 import ExportStatementRequest, StatementEntry
from groupbuy.simprovider.v1.simprovider_pb2_grpc import SimProviderServiceStub

from ops.audit.cases import Case
from ops.audit.findings import Findings, Invariant
from ops.audit.money.holds import Hold, Payment
from ops.errors import OpsError
from ops.security import dial_provider

STATEMENT_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Totals:
    """Sums of one currency, in minor units."""

    held: int = 0
    captured: int = 0
    released: int = 0
    refunded: int = 0
    open: int = 0

    def add(self, held: int, captured: int, released: int, refunded: int) -> None:
        """Adds the amounts of one hold."""
        self.held += held
        self.captured += captured
        self.released += released
        self.refunded += refunded
        self.open += held - captured - released


async def statement(provider: str) -> list[StatementEntry]:
    """The provider's whole statement. Raises OpsError if the provider does not answer."""
    return [entry async for entry in stream_statement(provider)]


async def stream_statement(provider: str) -> AsyncIterator[StatementEntry]:
    """The entries of the provider's statement, as they arrive. Raises OpsError if the provider does not answer."""
    async with dial_provider(provider) as channel:
        stub = SimProviderServiceStub(channel)
        entries = stub.ExportStatement(ExportStatementRequest(), timeout=STATEMENT_TIMEOUT_S, wait_for_ready=True)
        try:
            async for entry in entries:
                yield entry
        except grpc.aio.AioRpcError as error:
            raise OpsError(
                f"the provider at {provider} returns no statement ({error.code().name}): check that it runs there"
            ) from error


def holds_of(cases: Iterable[Case]) -> Iterator[tuple[Case, Payment, str, Hold]]:
    """Every hold in the payment log: its case, its payment, the provider's reference and the hold."""
    for case in cases:
        for payment in case.group_payments.payments.values():
            for reference, hold in payment.holds.items():
                yield case, payment, reference, hold


def compare(cases: Iterable[Case], entries: Iterable[StatementEntry], settled: bool, findings: Findings) -> None:
    """Adds each difference to the findings.

    The statement must be newer than the log. Unless everything is `settled`, it may be ahead of the log.
    """
    theirs = {entry.hold: entry for entry in entries}
    for case, payment, reference, hold in holds_of(cases):
        entry = theirs.pop(reference, None)
        if entry is None:
            findings.breach(
                Invariant.BOOKS_EQUAL, case.key, hold.order, f"hold {reference} is not in the provider's statement"
            )
            continue
        if entry.captures > 1:
            findings.breach(
                Invariant.ONE_CAPTURE,
                case.key,
                hold.order,
                f"the provider captured hold {reference} {entry.captures} times",
            )
        over = hold.open == 0 and not payment.pending
        if settled or over:
            _compare_hold(case.key, reference, hold, entry, settled, findings)
    for entry in theirs.values():
        if not (entry.authorised_minor or entry.captured_minor):
            continue  # The shopper never confirmed it: no money moved.
        what = f"hold {entry.hold} of {entry.authorised_minor} {entry.currency} is in the statement, not in the log"
        if settled:
            findings.breach(Invariant.BOOKS_EQUAL, entry.group, entry.order, what)
        else:
            findings.add_pending(f"group {entry.group} order {entry.order}: {what}")


def _compare_hold(
    group: str, reference: str, hold: Hold, entry: StatementEntry, settled: bool, findings: Findings
) -> None:
    pairs = [
        ("authorised", entry.authorised_minor, hold.held),
        ("captured", entry.captured_minor, hold.captured),
        ("released", entry.released_minor, hold.released),
    ]
    if settled or entry.refunded_minor < hold.refunded:
        pairs.append(("refunded", entry.refunded_minor, hold.refunded))
    differences = [f"{what} {their} in the statement, {our} in the log" for what, their, our in pairs if their != our]
    if (entry.currency, entry.order, entry.group) != (hold.currency, hold.order, group):
        differences.append(
            f"{entry.currency} of groups/{entry.group}/orders/{entry.order} in the statement, "
            f"{hold.currency} of groups/{group}/orders/{hold.order} in the log"
        )
    if differences:
        findings.breach(Invariant.BOOKS_EQUAL, group, hold.order, f"hold {reference}: {'; '.join(differences)}")
