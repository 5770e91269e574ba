"""bench-peers: the same simple fold on our kernel, on Kafka Streams and on Quix Streams, in turns on one broker.

Every worker gets one core and the same facts, keeps its state in RocksDB, and processes exactly once; the broker has
the other core. Each output is compared with a fold that is computed without a stream processor. Prints a table, then
one JSON object as its last line, and exits with 1 if an output is wrong or a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.broker import kafka, new_producer
from bench.command import conclude
from bench.peers import builds
from bench.peers.facts import PARTITIONS, Facts
from bench.peers.messages import load
from bench.peers.runs import Found, ReadTotals, run
from eventlog.admin.topic_creation import create_topics
from eventlog.core.partitioner import partition_of
from eventlog.producing.batch_output import Output
from eventlog.records.envelope import HeaderTemplate, headers_of_copy
from eventlog.records.topic_spec import FOR_EVER, TopicSpec
from eventlog.runtime.wall_clock import wall_clock_ms

TAG = os.getpid()
OURS, STREAMS, QUIX = "groupbuy", "Kafka Streams", "Quix Streams"
#: Our warm rate for each fact a second of Kafka Streams once it is warm, in the same run.
MIN_RATIO_WARM = 0.45
#: Appended records between two sends while a topic is filled.
APPENDED = 50_000


@dataclass(frozen=True)
class Peer:
    """One worker: its command, its facts and its output."""

    name: str
    command: list[str]
    facts: Facts
    read: ReadTotals


def source_of(facts: Facts) -> str:
    """The topic of some facts."""
    return f"peers{TAG}.facts{facts.count}"


def group_of(peer: Peer, turn: int) -> str:
    """The consumer group of a worker in one turn."""
    return f"groupbuy.peers{TAG}turn{turn}.{peer.name.replace(' ', '').lower()}"


def target_of(peer: Peer, turn: int) -> str:
    """The output topic of a worker in one turn."""
    return f"{group_of(peer, turn)}.totals"


async def fill(bootstrap: str, facts: Facts) -> None:
    """Appends the facts, with the headers that records of the product's inboxes have."""
    stamp = HeaderTemplate("groupbuy.peers.Fact", "/bench")
    at_ms = wall_clock_ms()
    producer = new_producer(bootstrap)
    await producer.start()
    outputs = [Output(producer, source_of(facts), partition) for partition in range(PARTITIONS)]
    pending: list[Any] = []
    try:
        for number, (group, value) in enumerate(facts.records(), 1):
            made = headers_of_copy(stamp.headers(f"{group}:{number}", at_ms))
            outputs[partition_of(group, PARTITIONS)].append(group.encode(), value, made)
            if number % APPENDED == 0 or number == facts.count:
                await asyncio.gather(*pending)
                pending = [sent for output in outputs for sent in await output.send()]
        await asyncio.gather(*pending)
    finally:
        await producer.stop()


async def create(bootstrap: str, peers: list[Peer], turns: int, messages: dict[str, Any]) -> None:
    """Creates the topics of all turns."""
    numbers = range(turns)
    specs = {
        source_of(peer.facts): TopicSpec(
            source_of(peer.facts),
            messages["Fact"],
            "group",
            "bench",
            tuple(group_of(one, turn) for one in peers if one.name == OURS for turn in numbers),
            FOR_EVER,
        )
        for peer in peers
    }
    targets = [
        TopicSpec(target_of(peer, turn), messages["Totals"], "group", "bench", (), FOR_EVER)
        for peer in peers
        for turn in numbers
    ]
    await create_topics(bootstrap, [*specs.values(), *targets], partitions=PARTITIONS, replication=1)


def readers(messages: dict[str, Any]) -> tuple[ReadTotals, ReadTotals]:
    """How totals are read from our output, and from that of a peer."""
    parse_decision: Callable[[bytes], Any] = messages["Decision"].FromString
    parse_totals: Callable[[bytes], Any] = messages["Totals"].FromString

    def ours(value: bytes) -> tuple[int, int, int]:
        (event,) = parse_decision(value).events
        return event.facts, event.units, event.amount_minor

    def theirs(value: bytes) -> tuple[int, int, int]:
        totals = parse_totals(value)
        return totals.facts, totals.units, totals.amount_minor

    return ours, theirs


def show(name: str, found: Found) -> None:
    """Prints a row of the table."""
    verdict = "as expected" if not found.wrong else f"{found.wrong:,} WRONG"
    print(
        f"{name:24}{found.facts:>12,}{found.per_s:>12,.0f}{found.warm_per_s:>12,.0f}{found.cpu_us:>12.1f}"
        f"{found.peak_mb:>10}  {verdict}",
        flush=True,
    )


async def measure(bootstrap: str, peers: list[Peer], turns: int, messages: dict[str, Any]) -> dict[str, list[Found]]:
    """Runs each worker once in every turn, one after the other."""
    await create(bootstrap, peers, turns, messages)
    descriptors = builds.messages()
    for facts in {id(peer.facts): peer.facts for peer in peers}.values():
        await fill(bootstrap, facts)
    found: dict[str, list[Found]] = {peer.name: [] for peer in peers}
    print(f"{'':24}{'facts':>12}{'facts/s':>12}{'warm':>12}{'µs CPU':>12}{'peak MB':>10}  output", flush=True)
    versions = builds.versions()
    for turn in range(turns):
        for peer in peers:
            one = await run(
                bootstrap,
                peer.command,
                group=group_of(peer, turn),
                source=source_of(peer.facts),
                target=target_of(peer, turn),
                partitions=PARTITIONS,
                messages=descriptors,
                expected=peer.facts.expected,
                read=peer.read,
            )
            show(f"{peer.name} {versions.get(peer.name, '')}".strip(), one)
            found[peer.name].append(one)
    return found


def figures(found: dict[str, list[Found]]) -> dict[str, Any]:
    """Medians over the turns; the ratios are medians of the ratios in each turn."""
    keys = {OURS: "ours", STREAMS: "streams", QUIX: "quix"}
    made: dict[str, Any] = {}
    for name, runs in found.items():
        key = keys[name]
        made[f"{key}_facts"] = runs[0].facts
        made[f"{key}_facts_per_s"] = round(median(one.per_s for one in runs))
        made[f"{key}_warm_facts_per_s"] = round(median(one.warm_per_s for one in runs))
        made[f"{key}_cpu_us_per_fact"] = round(median(one.cpu_us for one in runs), 1)
        made[f"{key}_peak_rss_mb"] = max(one.peak_mb for one in runs)
    for name, key in keys.items():
        if name != OURS and name in found:
            pairs = list(zip(found[OURS], found[name], strict=True))
            suffix = "" if name == STREAMS else f"_{key}"
            made[f"peer_ratio{suffix}"] = round(median(our.per_s / their.per_s for our, their in pairs), 2)
            made[f"peer_ratio_warm{suffix}"] = round(
                median(our.warm_per_s / their.warm_per_s for our, their in pairs), 2
            )
    made["wrong"] = sum(one.wrong for runs in found.values() for one in runs)
    return made


def workers(facts: int, quix_facts: int, messages: dict[str, Any]) -> list[Peer]:
    """Our worker, Kafka Streams on the same facts, and Quix Streams on its own ones unless it has none."""
    read_ours, read_theirs = readers(messages)
    common = Facts(facts, messages["Fact"])
    ours = [sys.executable, "-m", "bench.peers.ours"]
    made = [Peer(OURS, ours, common, read_ours), Peer(STREAMS, builds.streams(), common, read_theirs)]
    if quix_facts:
        made.append(Peer(QUIX, builds.quix(), Facts(quix_facts, messages["Fact"]), read_theirs))
    return made


def warm_ratio(bootstrap: str, facts: int) -> float:
    """Our warm rate for each fact a second of warm Kafka Streams. Raises SystemExit if an output is wrong."""
    messages = load(builds.messages())
    made = figures(asyncio.run(measure(bootstrap, workers(facts, 0, messages), 1, messages)))
    if made["wrong"]:
        raise SystemExit(f"{made['wrong']:,} outputs of the simple fold are wrong")
    ratio: float = made["peer_ratio_warm"]
    return ratio


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--facts", type=int, default=2_000_000, help="facts of ours and of Kafka Streams")
    parser.add_argument("--quix-facts", type=int, default=100_000, help="facts of Quix Streams; 0: leave it out")
    parser.add_argument("--turns", type=int, default=1, help="runs of each worker")
    given = parser.parse_args()
    messages = load(builds.messages())
    peers = workers(given.facts, given.quix_facts, messages)
    with kafka(core=0) as bootstrap:
        found = asyncio.run(measure(bootstrap, peers, given.turns, messages))
    made = figures(found)
    conclude(made, not made["wrong"], made["peer_ratio_warm"] >= MIN_RATIO_WARM)


if __name__ == "__main__":
    main()
