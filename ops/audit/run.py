"""Audits a running system: reads its topics, requests the provider's statement, and reports which invariants hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from aiokafka.errors import KafkaConnectionError, KafkaError

from eventlog.broker.topic_checks import common_partition_count, partition_counts
from eventlog.core.errors import TopicsDiffer
from ops.audit.auditor import Auditor
from ops.audit.fold import AUDIT_TOPICS, TOPICS
from ops.audit.money.statement import Coverage
from ops.audit.report import Report
from ops.broker.connection import no_connection
from ops.errors import OpsError
from ops.log.reader import Reader
from ops.security import cluster
from ops.statements.collected import Statement
from ops.statements.simulated import payouts, statement
from shared_kernel import log_registry
from shared_kernel.topics import ALL

POLL_S = 0.3

#: Offsets by topic and partition.
Marks = Mapping[tuple[str, int], int]


class NotQuiet(TimeoutError):
    """Work is still pending at the deadline. `pending` describes some of it."""

    def __init__(self, pending: list[str], deadline_s: float) -> None:
        some = "; ".join(pending[:5]) or "the topics keep growing"
        super().__init__(f"not quiet within {deadline_s:g} s: {some}")
        self.pending = pending


async def marks(kafka: str) -> Marks:
    """The end offsets of all topics, for an audit of later records. Valid only while nothing is pending."""
    async with Reader(kafka, AUDIT_TOPICS) as reader:
        return {(tp.topic, tp.partition): end for tp, end in (await reader.ends()).items()}


async def audit(
    kafka: str,
    provider: str | None,
    *,
    settled: bool = False,
    acknowledged: Iterable[tuple[str, str]] = (),
    since: Marks | None = None,
    given: Statement | None = None,
) -> Report:
    """Reads all topics up to their current ends and checks them against the provider's statement.

    With `settled`, pending work is a violation. Without a `provider`, the statement is not compared. `acknowledged` are
    the (group, order) pairs whose placement was acknowledged to a client. `since` omits earlier records, for a broker
    with the records of other runs and other providers. `given` is a statement in place of the provider's own.
    """
    begun = monotonic()
    known = await _registry(kafka)
    async with Reader(kafka, AUDIT_TOPICS, skipped=known.skipped) as reader:
        declared = await _declared(kafka, known)
        auditor = await _auditor(reader, since, Auditor(declared, known.skipped, with_inputs=True))
        await reader.read_to_end(auditor.take)
    if given is None and provider is not None:
        entries_by_hold = {one.hold: one for one in await statement(provider)}
        given = Statement(money_only=False, entries=entries_by_hold, payouts=await payouts(provider))
    entries = None if given is None else given.entries.values()
    coverage = Coverage() if given is None else Coverage(given.provider, given.money_only)
    paid = None if given is None else given.payouts
    report = auditor.report(
        settled=settled, entries=entries, acknowledged=acknowledged, coverage=coverage, payouts=paid
    )
    report.seconds = monotonic() - begun
    return report


async def wait_quiet(
    kafka: str,
    *,
    deadline_s: float = 60.0,
    since: Marks | None = None,
    on_poll: Callable[[list[str]], None] | None = None,
) -> None:
    """Waits until every group is final and nothing is pending. Raises NotQuiet after `deadline_s` seconds.

    Retries while the broker is unreachable. Each poll calls `on_poll` with a sample of the pending work.
    """
    until = monotonic() + deadline_s
    known = await _registry(kafka)
    async with Reader(kafka, TOPICS, skipped=known.skipped) as reader:
        auditor = await _auditor(reader, since, Auditor(skipped=known.skipped))
        quiet_before = False
        while True:
            began = monotonic()
            try:
                grown = await reader.read_to_end(auditor.take)
            except KafkaError as error:
                grown, pending = 1, [f"the broker does not answer: {error!r}"]
            else:
                pending = auditor.pending()
            if on_poll is not None:
                on_poll(pending)
            # Two polls in a row without pending work or new records: after one, a record may be on its way.
            quiet = not pending and not grown
            if quiet and quiet_before:
                return
            quiet_before = quiet
            if monotonic() > until:
                raise NotQuiet(pending, deadline_s)
            # A poll of a large log takes long. The pause is as long, so polling uses at most half of a core.
            await asyncio.sleep(max(POLL_S, monotonic() - began))


async def _registry(kafka: str) -> log_registry.Registry:
    try:
        return await log_registry.read(cluster(kafka))
    except TopicsDiffer as error:
        raise OpsError(f"{kafka}: {error}") from error
    except KafkaConnectionError:
        raise no_connection(kafka) from None


async def _declared(kafka: str, known: log_registry.Registry) -> int:
    """The declared number of partitions. Raises OpsError if a topic has another one."""
    declared = known.declared.partitions if known.declared is not None else None
    try:
        return common_partition_count(await partition_counts(cluster(kafka), ALL), declared)
    except TopicsDiffer as error:
        raise OpsError(f"{kafka}: {error}") from error


async def _auditor(reader: Reader, since: Marks | None, auditor: Auditor | None = None) -> Auditor:
    auditor = auditor or Auditor()
    begins = await reader.beginnings()
    if since is not None:
        reader.seek(since)
        begins.update(since)
    for (topic, partition), offset in begins.items():
        auditor.begins_at(topic, partition, offset)
    return auditor
