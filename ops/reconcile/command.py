"""`reconcile`: our ledger against the provider's statement, and what to do about each hold that differs.

Where `audit` checks every rule, this is the book-keeper's daily work, also on a statement that came as a file. With
--feed, what the provider did and we never heard of is put to its purse as a claim. Must never book anything itself.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import grpc
import typer
from aiokafka.errors import KafkaError
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry
from rich.table import Table

from ops import where
from ops.audit.money.statement import statement
from ops.console import console
from ops.errors import USAGE, OpsError
from ops.ledger.fold import Ledger
from ops.log.reader import Reader, skips
from ops.printing import as_json, echo
from ops.reconcile.claims import feed
from ops.reconcile.comparison import Books, Kind, Line, compare
from ops.reconcile.statement import read
from services.payments.domain.evolve import evolve
from services.payments.domain.model import GroupPayments
from services.payments.ledger.journal import Entry, Fault
from shared_kernel.topics import PAYMENT_LOG

POLL_INTERVAL_S = 0.5
MAX_SHOWN = 100
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]


class Ours:
    """Our books while the log of decisions is read: the ledger's holds, and the purses that say what is under way."""

    def __init__(self, until_ms: float = math.inf) -> None:
        """`until_ms`: what was decided later, in milliseconds since the epoch, is left out."""
        self._until_ms = until_ms
        self.books = Books()
        self.purses: dict[str, GroupPayments] = {}
        self.ledger = Ledger(self._book, self._complain)
        self._versions: dict[str, int] = {}

    def take(self, records: list[Any]) -> None:
        """Takes records of one partition, in order. Raises OpsError where the log is broken."""
        wanted = [record for record in records if record.timestamp <= self._until_ms]
        self.ledger.take(wanted)
        for record in wanted:
            self._follow(record)

    def _book(self, entries: list[Entry]) -> None:
        self.books.take(entries)

    def _follow(self, record: Any) -> None:
        # The ledger has read it before: it is a decision, and the next one or a repeat.
        decision = PaymentDecision.FromString(record.value)
        if decision.version <= self._versions.get(decision.group, 0):
            return
        self._versions[decision.group] = decision.version
        purse = self.purses.setdefault(decision.group, GroupPayments(decision.group))
        for event in decision.events:
            evolve(purse, event)

    def _complain(self, fault: Fault, group: str, version: int, partition: int, offset: int, what: str) -> None:
        raise OpsError(
            f"the log of decisions is broken at partition {partition} offset {offset}: {what}; see `groupbuy-ops audit`"
        )


def reconcile(
    kafka: where.Kafka = None,
    provider: where.Provider = None,
    file: Annotated[
        Path | None,
        typer.Option("--statement", help="A statement as CSV, instead of the provider's own answer."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=_TIMES, help="When the statement was made, UTC: leave out what came later."),
    ] = None,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Look again for so many seconds at most, until all agrees.")
    ] = 10.0,
    feeds: Annotated[
        bool, typer.Option("--feed", help="Tell the purses what only the provider knows; they do what follows from it.")
    ] = False,
) -> None:
    """Compares our ledger with the provider's statement: matched, ours only, theirs only, amount differs.

    Each with its order and the way to mend it. The last line is one JSON object. Exit 1 where the books don't agree.
    """
    address = where.broker(kafka)
    given = read(file) if file is not None else None
    target = where.provider(provider) if given is None else ""
    ours = Ours(until.replace(tzinfo=UTC).timestamp() * 1000 if until is not None else math.inf)
    try:
        lines, fed = asyncio.run(_run(address, target, given, ours, wait_s, feeds))
    except KafkaError as error:
        raise OpsError(f"the broker at {address} stopped answering: {error!r}", USAGE) from error
    _print(lines)
    counts = Counter(line.kind for line in lines)
    differ = [line for line in lines if line.kind is not Kind.MATCHED]
    figures = {kind.name.lower(): counts[kind] for kind in Kind}
    under_way = sum(line.under_way for line in differ)
    equal = under_way == len(differ)
    echo(as_json({**figures, "under_way": under_way, "fed": fed, "books_equal": equal}))
    if not equal:
        raise typer.Exit(1)


async def _run(
    kafka: str, provider: str, given: Sequence[StatementEntry] | None, ours: Ours, wait_s: float, feeds: bool
) -> tuple[list[Line], int]:
    lines = await compared(kafka, provider if given is None else given, ours, wait_s)
    claims = [(line.group, line.claim) for line in lines if line.claim is not None]
    return lines, await feed(kafka, claims) if feeds and claims else 0


async def compared(
    kafka: str, theirs: str | Sequence[StatementEntry], ours: Ours | None = None, wait_s: float = 10.0
) -> list[Line]:
    """Compares until both sides agree or the time is up; what still changes then is under way and no error.

    `theirs` is a statement, or the address of the provider to ask for it. Raises OpsError, KafkaError.
    """
    until = monotonic() + wait_s
    ours = ours if ours is not None else Ours()
    before: set[tuple[str, str]] = set()
    async with Reader(kafka, [PAYMENT_LOG.name], passed_over=await skips(kafka)) as reader:
        for (_topic, partition), offset in (await reader.beginnings()).items():
            ours.ledger.begins_at(partition, offset)
        while True:
            entries = await _asked(theirs) if isinstance(theirs, str) else theirs
            await reader.read_to_end(lambda _topic, records: ours.take(records))
            lines = compare(ours.books, ours.purses, entries)
            differ = {(line.hold, line.what) for line in lines if line.kind is not Kind.MATCHED}
            if not differ or (monotonic() > until and before):
                return [line if (line.hold, line.what) in before else line.moving() for line in lines]
            before = differ
            await asyncio.sleep(POLL_INTERVAL_S)


async def _asked(provider: str) -> list[StatementEntry]:
    try:
        return await statement(provider)
    except grpc.aio.AioRpcError as error:
        raise OpsError(
            f"the provider at {provider} does not give its statement ({error.code().name}): is it running there?"
        ) from error


def _print(lines: Sequence[Line]) -> None:
    out = console()
    counts = Counter(line.kind for line in lines)
    out.print(", ".join(f"{counts[kind]:,} {kind}" for kind in Kind))
    differ = [line for line in lines if line.kind is not Kind.MATCHED]
    if not differ:
        return
    table = Table(title="Not the same in both books", title_justify="left", show_lines=True)
    for column in ("", "order", "hold", "what", "how to mend it"):
        table.add_column(column, overflow="fold")
    for line in differ[:MAX_SHOWN]:
        name = f"groups/{line.group}/orders/{line.order}"
        table.add_row(line.kind, name, line.hold, line.what, line.mend)
    out.print(table)
    if len(differ) > MAX_SHOWN:
        out.print(f"and {len(differ) - MAX_SHOWN:,} more")
