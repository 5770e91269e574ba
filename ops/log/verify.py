"""`verify`: reads every record of every topic and reports those that no service of ours writes. Changes nothing.

Each finding has its place and its way out. Memory is bounded: a decision log is read once per 200,000 groups of a
partition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from time import monotonic
from typing import Annotated, Any

import typer
from aiokafka import TopicPartition

from eventlog.broker.partition_reader import PartitionReader
from eventlog.broker.topic_checks import partition_counts
from eventlog.core.errors import TopicsDiffer
from eventlog.records.topic_spec import TopicSpec
from ops import completion
from ops.broker.connection import at_broker
from ops.broker.topics import specs_of
from ops.errors import DOES_NOT_HOLD, cannot_run
from ops.log.verify_checks import LOGS, UNTAKEN, Chains, Context, Finding, Kind, check, decoders
from ops.security import cluster
from ops.terminal.output import Json, Output
from ops.terminal.printing import printable
from ops.terminal.rich_console import labelled
from ops.where import Kafka, broker
from shared_kernel.log_registry import Registry
from shared_kernel.topics import ALL, REGISTRY

#: Chains of one partition that are in memory at once.
CHAINS = 200_000
#: Printed findings per topic and kind.
MAX_SHOWN = 20


@dataclass(slots=True)
class Verified:
    """The counts of a verification."""

    records: int = 0
    dead_letters: int = 0
    #: Records with a recorded skip.
    skipped: int = 0
    findings: Counter[tuple[str, Kind]] = field(default_factory=Counter)

    @property
    def wrong(self) -> int:
        """The number of all findings."""
        return sum(self.findings.values())


OnFinding = Callable[[Finding], None]


def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Topics. Default: all.", autocompletion=completion.topics)
    ] = None,
    kafka: Kafka = None,
    json: Json = False,
) -> None:
    """Verifies every record of every topic: key, partition, content, numbers, sizes, and the chain of each group.

    Prints each finding with its way out. With --json every finding is printed, else the first 20 of a kind and topic.
    The last line is one JSON object.

    Reads the topics from their beginning to their current end.

    Changes nothing.

    Exit codes: 0 no findings, 1 findings, 2 cannot run or there is no such topic.

    Example: groupbuy-ops verify payments.payment.v1 --json
    """
    begun, out = monotonic(), Output(json)
    address = broker(kafka)
    specs, printer = specs_of(names), _Printer(out)
    verified = at_broker(address, lambda: verify_topics(address, specs, printer))
    printer.finish(verified)
    figures = {
        "records": verified.records,
        "findings": verified.wrong,
        "skipped": verified.skipped,
        "dead_letters": verified.dead_letters,
        "seconds": round(monotonic() - begun, 2),
    }
    out.figures(figures)
    if verified.wrong:
        raise typer.Exit(DOES_NOT_HOLD)


class _Printer:
    """Prints findings when they are found."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._shown: Counter[tuple[str, Kind]] = Counter()

    def __call__(self, finding: Finding) -> None:
        place = finding.topic, finding.kind
        self._shown[place] += 1
        if self._out.json:
            self._out.record(finding._asdict() | {"way_out": finding.way_out})
        elif self._shown[place] <= MAX_SHOWN:
            what = f"{finding.place} {finding.kind}: {finding.what}"
            self._out.show(labelled("wrong", "bold red", what), soft_wrap=True)
            self._out.show(f"  way out: {printable(finding.way_out)}", soft_wrap=True)

    def finish(self, verified: Verified) -> None:
        """Prints the number of omitted findings."""
        for (topic, kind), count in verified.findings.items():
            if count > MAX_SHOWN:
                self._out.line(f"and {count - MAX_SHOWN:,} more of {topic}: {kind}")


async def verify_topics(
    address: str, specs: Sequence[TopicSpec], on_finding: OnFinding, *, chains: int = CHAINS
) -> Verified:
    """Verifies topics up to their current ends."""
    kafka = cluster(address)
    counts = await partition_counts(kafka, ALL)
    if missing := [spec.name for spec in specs if spec.name not in counts]:
        raise cannot_run(f"the broker at {address} has no topic {', '.join(missing)}")
    verified = Verified()

    def found(finding: Finding) -> None:
        verified.findings[finding.topic, finding.kind] += 1
        on_finding(finding)

    known = await _registry(address, counts[REGISTRY.name], found if REGISTRY in specs else lambda _: None)
    number = known.declared.partitions if known.declared is not None else max(counts.values())
    for spec in specs:
        if counts[spec.name] != number:
            what = f"it has {counts[spec.name]} partitions, {number} were declared"
            found(Finding(spec.name, -1, -1, Kind.COUNT, what))
    until = await _ends(address, counts)
    # A record refers to earlier records, so they are before the ends that are read after its own.
    context = Context(number, await _ends(address, counts), frozenset(known.skipped), decoders())
    for spec in specs:
        await _Topic(address, spec, until, context, verified, found, chains).verify()
    return verified


class _Topic:
    def __init__(
        self,
        address: str,
        spec: TopicSpec,
        until: Mapping[tuple[str, int], int],
        context: Context,
        verified: Verified,
        found: OnFinding,
        chains: int,
    ) -> None:
        self._kafka = cluster(address)
        self._spec = spec
        self._context = context
        self._verified = verified
        self._found = found
        self._chains = chains
        #: Findings of a compacted topic, by key, until a later valid record of the key.
        self._superseded: dict[bytes, list[Finding]] = {}
        self._tps = {TopicPartition(*place): end for place, end in until.items() if place[0] == spec.name}

    async def verify(self) -> None:
        """Reads the topic."""
        async with PartitionReader(self._kafka, list(self._tps)) as reading:
            for tp, end in self._tps.items():
                await self._partition(reading, tp, reading.begins[tp], end)

    async def _partition(self, reading: PartitionReader, tp: TopicPartition, begin: int, end: int) -> None:
        spec = self._spec
        if spec in LOGS and begin:
            self._found(Finding(spec.name, tp.partition, 0, Kind.HOLE, f"its records before {begin} are gone"))
        chains = Chains(spec, self._chains)
        self._superseded.clear()
        first = True
        while chains.next_pass():
            at = begin
            async with aclosing(reading.records(tp, begin, end)) as records:
                async for record in records:
                    if first:
                        if record.offset != at and not spec.compacted:
                            what = f"there is no record from {at} to {record.offset}"
                            self._found(Finding(spec.name, tp.partition, at, Kind.HOLE, what))
                        at = record.offset + 1
                    self._record(record, chains, first)
            first = False
            if spec not in LOGS:
                break
        for findings in self._superseded.values():
            for finding in findings:
                self._found(finding)

    def _record(self, record: Any, chains: Chains, first: bool) -> None:
        spec, context = self._spec, self._context
        skipped = context.skips(spec, record)
        findings = list(check(spec, record, context))
        if first:
            self._verified.records += 1
            self._verified.dead_letters += spec.message is None
            self._verified.skipped += skipped
            if spec.compacted:
                # A later record of the key replaces it, for readers and, after compaction, in the topic.
                of_key = self._superseded.setdefault(record.key or b"", [])
                of_key[:] = [*of_key, *findings] if findings else []
                if not of_key:
                    del self._superseded[record.key or b""]
            elif not skipped:
                for finding in findings:
                    self._found(finding)
        if spec in LOGS and not {finding.kind for finding in findings} & (UNTAKEN | {Kind.FOREIGN}):
            broken = chains.take(record)
            if broken is not None and not skipped:
                self._found(broken)


async def _registry(address: str, count: int, found: OnFinding) -> Registry:
    """The valid entries of the registry. Reports the others as findings."""
    known = Registry()
    async with PartitionReader.of_topic(cluster(address), REGISTRY.name, count) as reading:
        async for tp, record in reading.all_records():
            key = (record.key or b"").decode(errors="replace")
            try:
                known.take(key, record.value)
            except TopicsDiffer as error:
                found(Finding(REGISTRY.name, tp.partition, record.offset, Kind.FORK, str(error)))
    return known


async def _ends(address: str, counts: dict[str, int]) -> dict[tuple[str, int], int]:
    tps = [TopicPartition(name, partition) for name, count in counts.items() for partition in range(count)]
    async with PartitionReader(cluster(address), tps) as reading:
        return {(tp.topic, tp.partition): end for tp, end in reading.ends.items()}
