"""Kills, freezes and doubles the kernel's workers under load, then compares the log with an independent fold.

`python -m tests.chaos.kernel.run --kafka HOST:PORT` runs it on a broker of one's own; the long form is a part of
`make chaos`, and a short one stands in the integration tests.
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
from tests.chaos.kernel.workers import WRONG_THREAD, Worker, Workers, impossible
from tests.waiting import moment

#: What is done to the broker; returns when it is over.
Blow = Callable[[Workers], Awaitable[None]]

PARTITIONS = 4
NAMES = ("w0", "w1")
#: Seconds that all of the inbox may take to be decided and committed once the trouble is over.
DRAIN_S = 120.0


@dataclass(frozen=True)
class Trouble:
    """How much of what is done to the workers and the broker, spread over `seconds`."""

    facts: int
    aggregates: int
    seconds: float
    kills: int
    #: Beyond the session time-out; every second one finds another process in its place when it wakes.
    freezes: int
    #: A second process with the same instance id beside one that lives.
    doubles: int = 0
    #: Of whatever the run is given to do to the broker.
    broker_restarts: int = 0
    #: Workers whose log collector goes, or stops reading. Two of three must then find out that they are displaced.
    mutes: int = 0
    seed: int = 1
    #: Of `seconds`, what the facts come within: less than all leaves a backlog to those who recover.
    load_share: float = 1.0
    #: Of the workers' membership.
    session_s: float = 10.0
    drain_s: float = DRAIN_S
    #: Whether produce requests stall on their way. The proxy stands for one broker.
    late: bool = True
    #: Whether the workers write a record an event, see switches.py.
    split: bool = False
    #: Of the workers.
    environment: Mapping[str, str] = field(default_factory=dict)

    def plan(self) -> list[tuple[float, str]]:
        """(seconds from the start, what) in sequence."""
        spread = (
            ("kill", self.kills, 1.0),
            ("freeze", self.freezes, 0.6),
            ("double", self.doubles, 0.3),
            ("broker", self.broker_restarts, 0.8),
            ("mute", self.mutes, 0.5),
        )
        times = [
            (self.seconds * (n + begin) / (count + 1), what) for what, count, begin in spread for n in range(count)
        ]
        return sorted(times)


async def committed(kafka: str, group: str) -> dict[TopicPartition, int]:
    """Where a group is to go on in each partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        return {tp: meta.offset for tp, meta in (await admin.list_consumer_group_offsets(group)).items()}
    finally:
        await admin.close()


async def lag(kafka: str, group: str) -> int:
    """Records of the inbox that are not committed."""
    offsets = await committed(kafka, group)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(offsets))
    finally:
        await consumer.stop()
    return sum(ends[tp] - offset for tp, offset in offsets.items())


async def judge(kafka: str, inbox: TopicSpec, log: TopicSpec, *, split: bool = False) -> Verdict:
    """The comparison with the independent fold."""
    # First: an input that was committed by then has its decision in the log that is read next.
    offsets = {tp.partition: offset for tp, offset in (await committed(kafka, inbox.readers[0])).items()}
    written = await read(kafka, log.name, PARTITIONS)
    return compare(await read(kafka, inbox.name, PARTITIONS), written, offsets, split=split)


class _Run:
    """The trouble under way."""

    def __init__(self, trouble: Trouble, workers: Workers, blow: Blow | None) -> None:
        self._plan = trouble.plan()
        self._workers = workers
        self._blow = blow
        self._chance = random.Random(trouble.seed)
        self._session_s = trouble.session_s
        self._frozen: list[tuple[float, Worker]] = []
        self._began = time.monotonic()
        self.done = dict.fromkeys(("kills", "woken", "doubles", "broker_restarts", "mutes"), 0)

    async def step(self) -> bool:
        """Does what is due. Whether anything is left."""
        self._workers.restart_ended()
        now = time.monotonic()
        for entry in [one for one in self._frozen if now >= one[0]]:
            self.done["woken"] += self._workers.wake(entry[1])
            self._frozen.remove(entry)
        if self._plan and now - self._began >= self._plan[0][0]:
            await self._do(self._plan[0][1], now)
        return bool(self._plan or self._frozen)

    async def _do(self, what: str, now: float) -> None:
        awake = self._workers.awake()
        if what == "broker":
            assert self._blow is not None
            await self._blow(self._workers)
            self.done["broker_restarts"] += 1
        elif not awake or (what == "freeze" and self._frozen):
            return
        else:
            worker = self._chance.choice(awake)
            if what == "kill":
                self._workers.kill(worker)
                self.done["kills"] += 1
            elif what == "freeze":
                self._workers.freeze(worker)
                self._frozen.append((now + self._session_s + self._chance.uniform(2, 5), worker))
                if (len(self._frozen) + self.done["woken"]) % 2:
                    self._workers.start(worker.name)
            elif what == "mute":
                self._mute(worker)
            else:
                self._workers.start(worker.name)
                self.done["doubles"] += 1
        self._plan.pop(0)

    def _mute(self, worker: Worker) -> None:
        """One whose collector is gone works on; the next one, and one whose output is full, must end without a word."""
        assert worker.collector is not None
        count = self.done["mutes"]
        self.done["mutes"] += 1
        if count % 3 == 2:
            worker.collector.clog()
        else:
            worker.collector.go()
        if count % 3:
            self._workers.start(worker.name)


async def chaos(kafka: str, trouble: Trouble, directory: Path, blow: Blow | None = None) -> dict[str, int]:
    """One run. Returns the comparison's counts, with how often what was done."""
    tag = f"{os.getpid()}-{trouble.seed}-{time.time_ns() % 10**9}"
    inbox, log = topics(tag)
    await create_topics(kafka, [inbox, log], partitions=PARTITIONS, replication=1)
    proxy = LateProxy(kafka, seed=trouble.seed)
    await proxy.start()
    flags = ["--session", str(trouble.session_s)]
    if trouble.late:
        flags += ["--producer", proxy.address]
    workers = Workers(kafka, tag, directory, flags, trouble.environment, collected=trouble.mutes > 0)
    for name in NAMES:
        workers.start(name)
    loading = asyncio.create_task(
        load(
            kafka,
            inbox.name,
            facts=trouble.facts,
            aggregates=trouble.aggregates,
            seconds=trouble.seconds * trouble.load_share,
        )
    )
    left = -1
    try:
        run = _Run(trouble, workers, blow)
        while await run.step() or not loading.done():
            await moment()
        keys = await loading
        deadline = time.monotonic() + trouble.drain_s
        # Whoever lost its place must find that out by itself.
        while (left := await lag(kafka, inbox.readers[0])) or workers.displaced():
            if time.monotonic() > deadline:
                break
            workers.restart_ended()
            await moment(0.5)
        ghosts = len(workers.displaced())
    finally:
        ended = await asyncio.to_thread(workers.stop)
        await proxy.stop()
    reasons = workers.reasons()
    verdict = await judge(kafka, inbox, log, split=trouble.split)
    if not exact(verdict.counts):
        print(verdict, flush=True)
    for reason, count in reasons.most_common():
        print(f"workers: {count} x {reason}", flush=True)
    return {
        **verdict.counts,
        **run.done,
        "aggregates": keys,
        "late_after_death": proxy.late_after_death,
        "not_committed": left,
        "not_fenced": ghosts,
        "impossible": impossible(reasons),
        "threads_violations": workers.count(WRONG_THREAD),
        "undrained_stops": sum(count for code, count in ended.items() if code != "0"),
    }


#: What must be 0.
WRONG = ("missing", "extra", "wrong", "conflicting", "out_of_order")
UNSOUND = ("not_committed", "not_fenced", "impossible", "undrained_stops", "threads_violations")


def exact(counts: Mapping[str, int]) -> bool:
    """Whether the log is what it should be, and no worker met what exactness rules out on the way."""
    return not any(counts[name] for name in (*WRONG, *UNSOUND) if name in counts)


def main() -> None:
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
    counts = asyncio.run(chaos(kafka, Trouble(**given), directory))
    print(json.dumps(counts))
    sys.exit(0 if exact(counts) else 1)


if __name__ == "__main__":
    main()
