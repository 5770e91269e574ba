"""bench-fold: the product's group decider, with its state in RocksDB, against a stock Faust agent with the same rules.

Both process the same inputs in one run, one after the other on one core, with the broker on the other core. Prints one
JSON object as its last line, and exits with 1 if a target is missed. `--flame` writes a flame graph of the decider to
bench/results/. The same broker then runs the simple fold of bench-peers on our kernel and on Kafka Streams, and with
`--before` the decider of another checkout in turns with this one's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from aiokafka import AIOKafkaConsumer, TopicPartition
from groupbuy.groups.v1.inbox_pb2 import GroupInput

from bench.broker import append, kafka, new_producer
from bench.command import RESULTS, ROOT, conclude, worker_command
from bench.flame import entitle, recording
from bench.fold.facts import inputs, routed_decisions
from bench.fold.topics import ALL, DECISIONS, FACTS, INBOX, ROUTED, decider, log
from bench.peers import __main__ as peers
from eventlog.admin.topic_creation import create_topics
from eventlog.records.envelope import headers, headers_of_copy
from eventlog.runtime.wall_clock import wall_clock_ms

PARTITIONS = 4
AGAIN = "again"
#: Facts of the decider and records of the sequencer for each fact of the stock Faust agent in the same run.
MIN_RATIO = 10.0
MIN_SEQUENCED_RATIO = 25.0


async def _fill(bootstrap: str, topic: str, records: Iterable[tuple[str, bytes]]) -> int:
    at_ms = wall_clock_ms()

    def headers_of(key: str, number: int) -> list[tuple[str, bytes]]:
        made = headers(f"{key}:{number}", "groupbuy.payments.v1.PaymentDecision", "/payments", at_ms)
        return headers_of_copy(made) if topic == INBOX.name else made

    producer = new_producer(bootstrap)
    await producer.start()
    try:
        return await append(producer, topic, PARTITIONS, records, headers_of)
    finally:
        await producer.stop()


async def prepare(bootstrap: str, facts: int) -> int:
    """Fills the inbox, and the sequencer's source with its order facts. Returns the number of records in the source."""
    await create_topics(bootstrap, ALL, partitions=PARTITIONS, replication=1)
    records = list(inputs(facts))
    await _fill(bootstrap, INBOX.name, records)
    decoded = ((key, GroupInput.FromString(value).order_fact) for key, value in records)
    orders = [(key, fact) for key, fact in decoded if fact]
    # Three times, since a second of work is too short to measure.
    return await _fill(bootstrap, FACTS.name, orders * 3)


def _worker(
    mode: str, bootstrap: str, count: int, *, flame: Path | None = None, again: str = "", root: Path = ROOT
) -> dict[str, float]:
    """Runs a worker of the checkout in `root`. With `again` it has a consumer group and a log of its own."""
    state = tempfile.mkdtemp(prefix="bench-fold-")
    environment = dict(os.environ)
    if again:
        environment["BENCH_AGAIN"] = again
    if root != ROOT:
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{root / 'gen'}"
    command = worker_command("bench.fold.worker", bootstrap, PARTITIONS, state)
    command += ["--count", str(count), "--core", "1", mode]
    if flame is not None:
        command = recording(flame, 200, ["--", *command])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=root, env=environment)
    if flame is not None:
        entitle(flame)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"the {mode} worker ended with code {done.returncode} and no figures")
    found: dict[str, float] = json.loads(lines[-1])
    print(
        f"{mode:10} {found['per_s']:>9,.0f}/s   {found['cpu_us_per_fact']} µs CPU per fact   {found['peak_rss_mb']} MB"
    )
    return found


def run(bootstrap: str, *, facts: int, stock_facts: int, flame: bool) -> dict[str, float]:
    """Runs all three workers, one after the other."""
    orders = asyncio.run(prepare(bootstrap, facts))
    ours = _worker("ours", bootstrap, facts)
    stock = _worker("stock", bootstrap, min(stock_facts, facts))
    sequenced = _worker("sequencer", bootstrap, orders)
    if flame:
        # A run of its own, since the sampling costs time.
        asyncio.run(_again(bootstrap, AGAIN))
        _worker("ours", bootstrap, facts, flame=RESULTS / "fold.svg", again=AGAIN)
    return {
        "facts": facts,
        "facts_per_s": ours["per_s"],
        "stock_faust_facts_per_s": stock["per_s"],
        "ratio": round(ours["per_s"] / stock["per_s"], 1),
        "cpu_us_per_fact": ours["cpu_us_per_fact"],
        "stock_cpu_us_per_fact": stock["cpu_us_per_fact"],
        "peak_rss_mb": ours["peak_rss_mb"],
        "sequencer_ratio": round(sequenced["per_s"] / stock["per_s"], 1),
        "sequencer_records_per_s": sequenced["per_s"],
        "sequencer_cpu_us_per_record": sequenced["cpu_us_per_fact"],
    }


async def _fill_decisions(bootstrap: str, count: int) -> None:
    await create_topics(bootstrap, ROUTED, partitions=PARTITIONS, replication=1)
    await _fill(bootstrap, DECISIONS.name, routed_decisions(count))


def route(bootstrap: str, *, facts: int) -> dict[str, float]:
    """Runs the router alone on decisions that all have a target, every second of them two."""
    asyncio.run(_fill_decisions(bootstrap, facts))
    found = _worker("router", bootstrap, facts)
    return {
        "decisions": facts,
        "router_decisions_per_s": found["per_s"],
        "router_cpu_us_per_decision": found["cpu_us_per_fact"],
        "peak_rss_mb": found["peak_rss_mb"],
    }


def compare(bootstrap: str, before: Path, *, facts: int, turns: int) -> float:
    """The rate of this checkout's decider for each fact a second of another one's: the median of the turns."""
    ratios = []
    for turn in range(turns):
        rates = []
        for name, root in (("now", ROOT), ("before", before.resolve())):
            again = f"{name}{turn}"
            asyncio.run(_again(bootstrap, again))
            rates.append(_worker("ours", bootstrap, facts, again=again, root=root)["per_s"])
        ratios.append(rates[0] / rates[1])
    return round(median(ratios), 2)


async def _again(bootstrap: str, again: str) -> None:
    """Creates another log and a consumer group at the start of the inbox: the first log has all decisions already."""
    await create_topics(bootstrap, (log(again),), partitions=PARTITIONS, replication=1)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=decider(again), enable_auto_commit=False)
    await consumer.start()
    try:
        tps = [TopicPartition(INBOX.name, partition) for partition in range(PARTITIONS)]
        consumer.assign(tps)
        await consumer.commit(dict.fromkeys(tps, 0))
    finally:
        await consumer.stop()


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--facts", type=int, default=400_000, help="inputs in the inbox")
    parser.add_argument("--stock-facts", type=int, default=50_000, help="inputs that the stock agent processes")
    parser.add_argument("--flame", action="store_true", help="write a flame graph of the decider")
    parser.add_argument("--peer-facts", type=int, default=1_000_000, help="facts of the simple fold; 0: leave it out")
    parser.add_argument("--before", type=Path, help="another checkout, whose decider runs in turns with this one's")
    parser.add_argument("--turns", type=int, default=3, help="turns with --before")
    parser.add_argument("--router", action="store_true", help="measure the router alone")
    given = parser.parse_args()
    if given.router:
        with kafka(core=0) as bootstrap:
            conclude(route(bootstrap, facts=given.facts))
    with kafka(core=0) as bootstrap:
        found: dict[str, float | None] = {
            **run(bootstrap, facts=given.facts, stock_facts=given.stock_facts, flame=given.flame)
        }
        found["peer_ratio_warm"] = peers.warm_ratio(bootstrap, given.peer_facts) if given.peer_facts else None
        found["real_rules_ratio"] = (
            compare(bootstrap, given.before, facts=given.facts, turns=given.turns) if given.before else None
        )
    conclude(
        found,
        (found["ratio"] or 0) >= MIN_RATIO,
        (found["sequencer_ratio"] or 0) >= MIN_SEQUENCED_RATIO,
        found["peer_ratio_warm"] is None or found["peer_ratio_warm"] >= peers.MIN_RATIO_WARM,
    )


if __name__ == "__main__":
    main()
