"""`reconcile`: compares our ledger with the provider's statement, and says what to do about each difference.

`audit` checks the invariants; this is the daily reconciliation, also with a statement file. With --feed, operations
that only the provider has are sent to the payments service as claims, and its rules book them.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated, Any

import typer
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry
from rich.table import Table

from ops import where
from ops.broker.connection import at_broker
from ops.errors import DOES_NOT_HOLD, OpsError
from ops.ledger.fold import Ledger
from ops.log.reader import Reader, skips
from ops.reconcile.claims import feed
from ops.reconcile.comparison import Books, Kind, Line, compare, payout_lines
from ops.repair.findings import findings
from ops.security import require_provider
from ops.statements import source
from ops.statements.collected import Statement
from ops.statements.simulated import payouts, statement
from ops.terminal.output import Json, Output
from services.payments.domain.folds.evolve import evolve
from services.payments.domain.state.model import GroupPayments
from services.payments.ledger.journal import Entry, Fault
from shared_kernel.topics import PAYMENT_LOG

POLL_INTERVAL_S = 0.5
MAX_SHOWN = 100
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]


class OurBooks:
    """Our side, folded from the payment log: the ledger's holds, and the payments with their pending calls."""

    def __init__(self, until_ms: float = math.inf) -> None:
        """Omits decisions after `until_ms`, in milliseconds since the epoch."""
        self._until_ms = until_ms
        self.books = Books()
        self.payments: dict[str, GroupPayments] = {}
        #: Shares of orders in payouts, summed by payout and currency.
        self.payouts: dict[tuple[str, str], int] = {}
        self.ledger = Ledger(self._book, self._refuse)
        self._versions: dict[str, int] = {}

    def take(self, records: list[Any]) -> None:
        """Takes records of one partition, in order. Raises OpsError if the log is broken."""
        wanted = [record for record in records if record.timestamp <= self._until_ms]
        self.ledger.take(wanted)
        for record in wanted:
            self._follow(record)

    def _book(self, entries: list[Entry]) -> None:
        self.books.take(entries)

    def _follow(self, record: Any) -> None:
        # The ledger has checked it: it is the next decision or a duplicate.
        decision = PaymentDecision.FromString(record.value)
        if decision.version <= self._versions.get(decision.group, 0):
            return
        self._versions[decision.group] = decision.version
        group_payments = self.payments.setdefault(decision.group, GroupPayments(decision.group))
        for event in decision.events:
            evolve(group_payments, event)
            if event.HasField("paid_out"):
                name = event.paid_out.payout, event.paid_out.currency
                self.payouts[name] = self.payouts.get(name, 0) + event.paid_out.amount_minor

    def _refuse(self, fault: Fault, group: str, version: int, partition: int, offset: int, what: str) -> None:
        raise OpsError(
            f"the payment log is broken at partition {partition} offset {offset}: {what}; see `groupbuy-ops audit`"
        )


def reconcile(
    kafka: where.Kafka = None,
    provider: where.Provider = None,
    file: Annotated[
        str | None,
        typer.Option("--statement", help=source.HELP),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=_TIMES, help="Time of the statement, UTC. Omits later decisions."),
    ] = None,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Repeat up to this many seconds until both sides agree.")
    ] = 10.0,
    feeds: Annotated[
        bool,
        typer.Option(
            "--feed",
            help="Send provider-only movements as claims to the payments service; its rules then act on them.",
        ),
    ] = False,
    payments: where.Payments = None,
    reason: Annotated[
        str, typer.Option("--reason", help="Why, for --feed: the payments' inbox keeps it with each claim.")
    ] = "found in the provider's statement",
    json: Json = False,
) -> None:
    """Compares the ledger with the provider's statement, hold by hold: matched, ours only, theirs only, amount differs.

    Prints the order and the way out for each difference. The last line is one JSON object.

    Reads the payment log, and the provider's statement or another one.

    Changes nothing; with --feed the payments service appends claims to the payments' inbox, with operator and reason.

    Exit codes: 0 the books are equal, or pending calls explain each difference, 1 they differ, 2 cannot run.

    Example: groupbuy-ops reconcile --statement statement.csv --until 2026-01-31
    """
    address, out = where.broker(kafka), Output(json)
    origin = source.parse(file) if file is not None else None
    target = where.provider(provider) if origin is None else ""
    given = asyncio.run(source.read(origin)) if origin is not None else None
    ours = OurBooks(until.replace(tzinfo=UTC).timestamp() * 1000 if until is not None else math.inf)
    service = where.payments(payments) if feeds else ""
    lines, fed = at_broker(
        address, lambda: _run(address, target, given, ours, wait_s, service, reason), watched=not feeds
    )
    _print(out, lines)
    counts = Counter(line.kind for line in lines)
    differ = [line for line in lines if line.kind is not Kind.MATCHED]
    figures = {kind.name.lower(): counts[kind] for kind in Kind}
    pending = sum(line.pending for line in differ)
    equal = pending == len(differ)
    totals = _totals(given) if given is not None and given.money_only else {}
    out.figures({**figures, **totals, "under_way": pending, "fed": fed, "books_equal": equal})
    if not equal:
        raise typer.Exit(DOES_NOT_HOLD)


def _totals(given: Statement) -> dict[str, dict[str, int]]:
    """The statement's own sums by currency, in minor units: what the merchant's bank will see."""
    names = ("charged", "refunded", "disputed", "fees", "paid_out", "adjusted", "balance")
    return {
        f"{name}_minor": {currency: getattr(sums, name) for currency, sums in sorted(given.totals.items())}
        for name in names
    }


async def _run(
    kafka: str,
    provider: str,
    given: Statement | None,
    ours: OurBooks,
    wait_s: float,
    payments: str,
    reason: str,
) -> tuple[list[Line], int]:
    if given is None:
        await require_provider(provider)
    lines = await compared(kafka, provider if given is None else given, ours, wait_s)
    claims = [(line.group, line.claim) for line in lines if line.claim is not None]
    if not payments or not claims:
        return lines, 0
    async with findings(payments, reason) as send:
        return lines, await feed(claims, send)


async def compared(
    kafka: str, theirs: str | Statement | Sequence[StatementEntry], ours: OurBooks | None = None, wait_s: float = 10.0
) -> list[Line]:
    """Compares until both sides agree or the time is up. A difference that still changes then counts as pending.

    `theirs` is a statement, or the address of the provider that returns it. Raises OpsError, KafkaError.
    """
    until = monotonic() + wait_s
    ours = ours if ours is not None else OurBooks()
    before: set[tuple[str, str]] = set()
    async with Reader(kafka, [PAYMENT_LOG.name], skipped=await skips(kafka)) as reader:
        for (_topic, partition), offset in (await reader.beginnings()).items():
            ours.ledger.begins_at(partition, offset)
        while True:
            given = await statement(theirs) if isinstance(theirs, str) else theirs
            paid = await payouts(theirs) if isinstance(theirs, str) else None
            await reader.read_to_end(lambda _topic, records: ours.take(records))
            if isinstance(given, Statement):
                lines = compare(
                    ours.books,
                    ours.payments,
                    given.entries.values(),
                    provider=given.provider,
                    money_only=given.money_only,
                )
                paid = given.payouts
            else:
                lines = compare(ours.books, ours.payments, given)
            if paid is not None:
                lines += payout_lines(ours.payouts, paid)
            differ = {(line.hold, line.what) for line in lines if line.kind is not Kind.MATCHED}
            if not differ or (monotonic() > until and before):
                return [line if (line.hold, line.what) in before else line.unconfirmed() for line in lines]
            before = differ
            await asyncio.sleep(POLL_INTERVAL_S)


def _print(out: Output, lines: Sequence[Line]) -> None:
    counts = Counter(line.kind for line in lines)
    out.line(", ".join(f"{counts[kind]:,} {kind}" for kind in Kind))
    if not lines:
        out.note("no holds on either side")
    differ = [line for line in lines if line.kind is not Kind.MATCHED]
    if not differ:
        return
    table = Table(title="Differences", title_justify="left", show_lines=True)
    for column in ("", "order", "hold", "difference", "what to do"):
        table.add_column(column, overflow="fold")
    for line in differ:
        name = f"groups/{line.group}/orders/{line.order}" if line.group else "payout"
        found = {"order": name, "hold": line.hold, "difference": line.what, "what_to_do": line.action}
        out.record({"kind": line.kind.name.lower(), **found, "pending": line.pending})
        if table.row_count < MAX_SHOWN:
            table.add_row(line.kind, name, line.hold, line.what, line.action)
    out.show(table)
    if len(differ) > MAX_SHOWN:
        out.line(f"and {len(differ) - MAX_SHOWN:,} more")
