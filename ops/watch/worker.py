"""A worker of watch: follows some partitions of all topics, and reports the sums after each round.

Retries while the broker is away. The state directory has the position of each log: a worker continues there. A state of
other logs, or with damaged files, is set aside and the logs are folded again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from aiokafka.errors import KafkaError
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry
from msgspec import Struct

from eventlog.broker.log_identity import LogVerifier, identity_of
from eventlog.broker.security import Kafka
from eventlog.broker.topic_checks import common_partition_count, partition_counts
from eventlog.records.log_position import SourcePosition
from eventlog.runtime.wall_clock import wall_clock_ms
from eventlog.state.database import Database
from ops.audit.fold import TOPICS
from ops.errors import OpsError
from ops.log.reader import Reader
from ops.security import cluster
from ops.statements.holds_file import read as read_statement
from ops.statements.simulated import stream_statement
from ops.watch.folding.case_codec import STAMP
from ops.watch.folding.incremental import IncrementalAudit
from ops.watch.folding.statement_check import Compared, StatementCheck
from ops.watch.folding.totals import Totals
from shared_kernel import log_registry
from shared_kernel.topics import ALL

log = logging.getLogger(__name__)

#: Seconds between two rounds, between two attempts at a broker that is away, and between two reports within a round.
POLL_S = 0.5
RETRY_S = 1.0
REPORT_S = 1.0
#: Seconds between two readings of the registry, which may have new skips.
REGISTRY_S = 15.0
#: How far a partition may be read ahead of another, by the broker's time: groups are then folded while they are in
#: memory. And the bytes that are fetched ahead of one.
LEAD_MS = 2_000
FETCH_BYTES = 512 * 1024
#: Groups of a statement that are compared between two rounds.
_STEP = 1_000


class Statement(Struct, frozen=True):
    """Where a provider's statement comes from: its address, or a file."""

    provider: str
    address: str = ""
    file: str = ""


class Job(Struct, frozen=True):
    """The part of a worker."""

    kafka: str
    state: str
    worker: int = 0
    workers: int = 1
    statements: tuple[Statement, ...] = ()
    #: Seconds between two comparisons with a statement.
    statement_every_s: float = 3600.0
    #: End after the first round, and the first comparison of each statement.
    once: bool = False
    #: Seconds between two rounds.
    poll_s: float = POLL_S


class Progress(Struct, array_like=True):
    """The report of a worker."""

    worker: int
    #: Completed rounds. The sums are a consistent cut.
    rounds: int
    #: Records that are not folded yet.
    behind: int
    #: Records that this run has folded.
    folded: int
    #: As of the last completed round; None before the first one and within a round.
    totals: Totals | None
    compared: list[Compared] = []


class Observer(Protocol):
    """Sees what a worker folds. Called on the worker's event loop, so each call has to be short."""

    def opened(self, audit: IncrementalAudit) -> None:
        """The state is open; the logs are read on from there. Called again after each interruption."""

    def took(self, topic: str, records: Sequence[Any]) -> None:
        """Records of one partition are folded."""

    def ended_round(self, audit: IncrementalAudit) -> None:
        """A round is complete, and the cases are a consistent cut."""


class Worker:
    """One worker."""

    def __init__(self, job: Job, report: Callable[[Progress], None], observer: Observer | None = None) -> None:
        """`report` is called after each round, and about once a second within a round."""
        self._job = job
        self._report = report
        self._observer = observer
        self._rounds = 0
        self._folded = 0
        self._behind = 0
        self._reported_s = 0.0
        self._check: StatementCheck | None = None
        #: When each statement is compared next, by a monotonic clock.
        self._next_s = dict.fromkeys(job.statements, 0.0)
        self._compared: dict[str, Compared] = {}

    async def run(self, use: Callable[[IncrementalAudit], None] | None = None) -> None:
        """Follows the logs. Returns only with `once`; `use` then receives the audit before its state is closed."""
        while True:
            try:
                done = await self._follow(use)
            except (KafkaError, OSError, OpsError) as error:
                if self._job.once:
                    raise
                log.warning("the logs can't be read, retrying: %s", error)
                await asyncio.sleep(RETRY_S)
            else:
                if done:
                    return

    async def _follow(self, use: Callable[[IncrementalAudit], None] | None) -> bool:
        """Opens the state and follows the logs. Returns False when the registry has changed."""
        job, kafka = self._job, cluster(self._job.kafka)
        known = await log_registry.read(kafka)
        declared = known.declared.partitions if known.declared is not None else None
        number = common_partition_count(await partition_counts(kafka, ALL), declared)
        mine = [one for one in range(number) if one % job.workers == job.worker]
        identity = await identity_of(kafka, TOPICS)
        path = Path(job.state) / f"{job.worker}-of-{job.workers}"
        database = await asyncio.to_thread(Database, path, STAMP, identity)
        try:
            await verify(kafka, database)
            audit = IncrementalAudit(database, number, known.skipped)
            audit.skip(known.skipped)
            if self._observer is not None:
                self._observer.opened(audit)
            async with Reader(job.kafka, TOPICS, mine, skipped=known.skipped, fetch_bytes=FETCH_BYTES) as reader:
                begins = await reader.beginnings()
                reader.seek({place: audit.begins_at(*place, offset) for place, offset in begins.items()})
                return await self._rounds_of(reader, audit, kafka, known.skipped, number, mine, use)
        finally:
            if self._check is not None:
                self._check.close()
                self._check = None
            database.close()

    async def _rounds_of(
        self,
        reader: Reader,
        audit: IncrementalAudit,
        kafka: Kafka,
        skipped: set[tuple[str, int, int, bytes]],
        number: int,
        mine: Sequence[int],
        use: Callable[[IncrementalAudit], None] | None,
    ) -> bool:
        def take(topic: str, records: list[object]) -> None:
            audit.take(topic, records)  # type: ignore[arg-type]
            if self._observer is not None:
                self._observer.took(topic, records)
            self._folded += len(records)
            self._behind = max(0, self._behind - len(records))
            if time.monotonic() - self._reported_s >= REPORT_S:
                self._send(None)

        read_registry_s = time.monotonic()
        while True:
            await self._begin_check(audit, number, mine)
            positions = audit.positions()
            ends = {(tp.topic, tp.partition): end for tp, end in (await reader.ends()).items()}
            self._behind = sum(max(0, end - positions.get(place, 0)) for place, end in ends.items())
            await reader.read_to_end(take, LEAD_MS)
            audit.end_round()
            if self._observer is not None:
                self._observer.ended_round(audit)
            self._rounds += 1
            self._step_check()
            self._send(audit.totals)
            if self._job.once and self._check is None and all(self._next_s.values()):
                if use is not None:
                    use(audit)
                return True
            if time.monotonic() - read_registry_s >= REGISTRY_S:
                read_registry_s = time.monotonic()
                if (await log_registry.read(kafka)).skipped != skipped:
                    return False
            await asyncio.sleep(0 if self._check is not None else self._job.poll_s)

    async def _begin_check(self, audit: IncrementalAudit, number: int, mine: Sequence[int]) -> None:
        if self._check is not None or not self._rounds:
            # The first round may take long, and a statement has to be newer than the log that it is compared with.
            return
        due = next((one for one, at_s in self._next_s.items() if at_s <= time.monotonic()), None)
        if due is None:
            return
        self._next_s[due] = time.monotonic() + self._job.statement_every_s
        scratch = Path(self._job.state) / f"{self._job.worker}-of-{self._job.workers}.statement"
        check = StatementCheck(audit.cases, scratch, due.provider, wall_clock_ms())
        try:
            await check.load(_entries(due), number, mine)
        except OpsError as error:
            check.close()
            if self._job.once:
                raise
            log.error("the statement of %s can't be read: %s", due.provider, error)
            return
        self._check = check

    def _step_check(self) -> None:
        if self._check is not None and self._check.step(_STEP):
            result = self._check.result
            self._compared[result.provider] = result
            self._check = None
            log.info("statement of %s: %d entries, %d differ", result.provider, result.entries, result.differences)

    def _send(self, totals: Totals | None) -> None:
        self._reported_s = time.monotonic()
        behind = 0 if totals is not None else self._behind
        self._report(
            Progress(self._job.worker, self._rounds, behind, self._folded, totals, list(self._compared.values()))
        )


async def verify(kafka: Kafka, database: Database) -> None:
    """Sets the state aside unless the logs still have the records that it was folded from. Raises KafkaError."""
    by_partition: dict[int, dict[str, SourcePosition]] = {}
    for name, source in database.position.sources.items():
        topic, _, number = name.rpartition("/")
        by_partition.setdefault(int(number), {})[topic] = source
    if not by_partition:
        # aiokafka's consumer raises CancelledError if it is stopped before it did anything.
        return
    async with LogVerifier(kafka) as verifier:
        for partition, sources in by_partition.items():
            detail = await verifier.differs(partition, sources)
            if detail is not None:
                await asyncio.to_thread(database.reset, "another log", detail)
                return


async def _entries(statement: Statement) -> AsyncIterator[StatementEntry]:
    if statement.file:
        for entry in read_statement(Path(statement.file)):
            yield entry
    else:
        async for entry in stream_statement(statement.address):
            yield entry
