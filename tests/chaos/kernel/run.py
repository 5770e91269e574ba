"""Kills, freezes and doubles the kernel's workers under load, then compares the log with an independent fold.

`python -m tests.chaos.kernel.run --kafka HOST:PORT` runs it on a given broker. The long form is a part of `make chaos`;
a short one is among the integration tests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from eventlog.admin.topic_creation import create_topics
from eventlog.records.topic_spec import TopicSpec
from tests.chaos.kernel.late_proxy import LateProxy
from tests.chaos.kernel.load import load
from tests.chaos.kernel.refold import Verdict, compare, read
from tests.chaos.kernel.topics import topics
from tests.chaos.kernel.workers import WRONG_THREAD, Worker, Workers, count_violations
from tests.waiting import moment

#: A fault of the broker; returns when it is over.
BrokerFault = Callable[[Workers], Awaitable[None]]

PARTITIONS = 4
NAMES = ("w0", "w1")
#: Most seconds from the last fault until the whole inbox is decided and committed.
DRAIN_S = 120.0


@dataclass(frozen=True)
class FaultPlan:
    """The faults of one run, spread over `seconds`."""

    facts: int
    aggregates: int
    seconds: float
    kills: int
    #: Freezes beyond the session time-out. Every second frozen worker is displaced before it wakes.
    freezes: int
    #: Second processes with the instance id of a running one.
    doubles: int = 0
    #: Broker faults; the run is given the function.
    broker_restarts: int = 0
    #: Workers whose log collector closes the pipe or stalls. Two of three are then displaced.
    mutes: int = 0
    seed: int = 1
    #: Share of `seconds` in which the inputs are appended. Less than 1 leaves a backlog to recovering workers.
    load_share: float = 1.0
    #: Session time-out of the workers.
    session_s: float = 10.0
    drain_s: float = DRAIN_S
    #: Whether a proxy delays produce requests. It works for a single broker only.
    late: bool = True
    #: Whether the workers write one record for each event, see switches.py.
    split: bool = False
    #: Environment variables of the workers.
    environment: Mapping[str, str] = field(default_factory=dict)

    def schedule(self) -> list[tuple[float, str]]:
        """(seconds from the start, kind of fault), in order of time."""
        spread = (
            ("kill", self.kills, 1.0),
            ("freeze", self.freezes, 0.6),
            ("double", self.doubles, 0.3),
            ("broker", self.broker_restarts, 0.8),
            ("mute", self.mutes, 0.5),
        )
        times = [
            (self.seconds * (n + begin) / (count + 1), kind) for kind, count, begin in spread for n in range(count)
        ]
        return sorted(times)


async def committed(kafka: str, group: str) -> dict[TopicPartition, int]:
    """The committed offsets of a group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        return {tp: meta.offset for tp, meta in (await admin.list_consumer_group_offsets(group)).items()}
    finally:
        await admin.close()


async def lag(kafka: str, group: str) -> int:
    """Number of records in the inbox that are not committed."""
    offsets = await committed(kafka, group)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(offsets))
    finally:
        await consumer.stop()
    return sum(ends[tp] - offset for tp, offset in offsets.items())


async def verify(kafka: str, inbox: TopicSpec, log: TopicSpec, *, split: bool = False) -> Verdict:
    """Compares inbox and log with the independent fold."""
    # The committed offsets are read first: the log that is read next holds the decisions on all inputs before them.
    offsets = {tp.partition: offset for tp, offset in (await committed(kafka, inbox.readers[0])).items()}
    written = await read(kafka, log.name, PARTITIONS)
    return compare(await read(kafka, inbox.name, PARTITIONS), written, offsets, split=split)


class _FaultInjector:
    """Injects the faults of a plan when they are due."""

    def __init__(self, plan: FaultPlan, workers: Workers, broker_fault: BrokerFault | None) -> None:
        self._schedule = plan.schedule()
        self._workers = workers
        self._broker_fault = broker_fault
        self._chance = random.Random(plan.seed)
        self._session_s = plan.session_s
        self._frozen: list[tuple[float, Worker]] = []
        self._began = time.monotonic()
        self.done = dict.fromkeys(("kills", "woken", "doubles", "broker_restarts", "mutes"), 0)

    async def step(self) -> bool:
        """Injects the fault that is due, and wakes frozen workers. Returns whether any is left."""
        self._workers.restart_ended()
        now = time.monotonic()
        for entry in [one for one in self._frozen if now >= one[0]]:
            self.done["woken"] += self._workers.wake(entry[1])
            self._frozen.remove(entry)
        if self._schedule and now - self._began >= self._schedule[0][0]:
            await self._inject(self._schedule[0][1], now)
        return bool(self._schedule or self._frozen)

    async def _inject(self, kind: str, now: float) -> None:
        awake = self._workers.awake()
        if kind == "broker":
            assert self._broker_fault is not None
            await self._broker_fault(self._workers)
            self.done["broker_restarts"] += 1
        elif not awake or (kind == "freeze" and self._frozen):
            return
        else:
            worker = self._chance.choice(awake)
            if kind == "kill":
                self._workers.kill(worker)
                self.done["kills"] += 1
            elif kind == "freeze":
                self._workers.freeze(worker)
                self._frozen.append((now + self._session_s + self._chance.uniform(2, 5), worker))
                if (len(self._frozen) + self.done["woken"]) % 2:
                    self._workers.start(worker.name)
            elif kind == "mute":
                self._mute(worker)
            else:
                self._workers.start(worker.name)
                self.done["doubles"] += 1
        self._schedule.pop(0)

    def _mute(self, worker: Worker) -> None:
        """Takes the reader of a worker's output away. One of three keeps working; two are displaced, and end."""
        assert worker.collector is not None
        count = self.done["mutes"]
        self.done["mutes"] += 1
        if count % 3 == 2:
            worker.collector.stall()
        else:
            worker.collector.close()
        if count % 3:
            self._workers.start(worker.name)


async def chaos(
    kafka: str, plan: FaultPlan, directory: Path, broker_fault: BrokerFault | None = None
) -> dict[str, int]:
    """Runs a plan. Returns the counts of the comparison and of the faults."""
    tag = f"{os.getpid()}-{plan.seed}-{time.time_ns() % 10**9}"
    inbox, log = topics(tag)
    await create_topics(kafka, [inbox, log], partitions=PARTITIONS, replication=1)
    proxy = LateProxy(kafka, seed=plan.seed)
    await proxy.start()
    flags = ["--session", str(plan.session_s)]
    if plan.late:
        flags += ["--producer", proxy.address]
    workers = Workers(kafka, tag, directory, flags, plan.environment, collected=plan.mutes > 0)
    for name in NAMES:
        workers.start(name)
    loading = asyncio.create_task(
        load(
            kafka,
            inbox.name,
            facts=plan.facts,
            aggregates=plan.aggregates,
            seconds=plan.seconds * plan.load_share,
        )
    )
    left = -1
    try:
        injector = _FaultInjector(plan, workers, broker_fault)
        while await injector.step() or not loading.done():
            await moment()
        keys = await loading
        deadline = time.monotonic() + plan.drain_s
        # Displaced workers must end by themselves.
        while (left := await lag(kafka, inbox.readers[0])) or workers.displaced():
            if time.monotonic() > deadline:
                break
            workers.restart_ended()
            await moment(0.5)
        displaced = len(workers.displaced())
    finally:
        ended = await asyncio.to_thread(workers.stop)
        await proxy.stop()
    reasons = workers.reasons()
    verdict = await verify(kafka, inbox, log, split=plan.split)
    if not exact(verdict.counts):
        print(verdict, flush=True)
    for reason, count in reasons.most_common():
        print(f"workers: {count} x {reason}", flush=True)
    for text in workers.violations():
        print(text, flush=True)
    return {
        **verdict.counts,
        **injector.done,
        "aggregates": keys,
        "late_after_death": proxy.late_after_death,
        "not_committed": left,
        "not_fenced": displaced,
        "impossible": count_violations(reasons),
        "threads_violations": workers.count(WRONG_THREAD),
        "undrained_stops": sum(count for code, count in ended.items() if code != "0"),
    }


#: Counts that are 0 in an exact run: of the comparison, and of the workers.
WRONG = ("missing", "extra", "wrong", "conflicting", "out_of_order")
UNSOUND = ("not_committed", "not_fenced", "impossible", "undrained_stops", "threads_violations")


def exact(counts: Mapping[str, int]) -> bool:
    """Whether the log is as expected, and no worker hit an invariant violation."""
    return not any(counts[name] for name in (*WRONG, *UNSOUND) if name in counts)


def main() -> None:
    """Runs one plan on a given broker. Exits with 1 unless it was exact."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--facts", type=int, default=200_000)
    parser.add_argument("--aggregates", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--freezes", type=int, default=5)
    parser.add_argument("--doubles", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    given = vars(parser.parse_args())
    kafka = given.pop("kafka")
    directory = Path(tempfile.mkdtemp(prefix="kernel-chaos-"))
    counts = asyncio.run(chaos(kafka, FaultPlan(**given), directory))
    print(json.dumps(counts))
    sys.exit(0 if exact(counts) else 1)


if __name__ == "__main__":
    main()
