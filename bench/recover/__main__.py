"""bench-recover: the time from SIGKILL to the first new decision, with many open groups in state.

The worker is restarted at once, and a group is opened every few milliseconds. The recovery ends when the log has a
decision of a group that was opened after the kill. Then as many groups again are opened, written to a checkpoint,
settled and written again, and the kills are repeated: settled groups must not slow a start. Prints one JSON object as
its last line, and exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from bench.broker import append, kafka, new_producer
from bench.command import ROOT, conclude, worker_command
from bench.evening import closed_inputs, group_inputs
from bench.fold.topics import ALL, DECIDER, INBOX, LOG
from bench.memory import rss_mb
from eventlog.admin.topic_creation import create_topics
from eventlog.core.partitioner import partition_of

PARTITIONS = 4
WANTED_S = 5.0
WANTED_MB = 400
DEADLINE_S = 600.0
#: First indexes of the settled groups and of the probes.
CLOSED_FROM = 10**8
PROBES_FROM = 10**9
#: Time for two checkpoints of the worker, which are due every 5 s.
CHECKPOINTS_S = 12.0


class Log:
    """Reads the decision log."""

    def __init__(self, bootstrap: str) -> None:
        self._tps = [TopicPartition(LOG.name, partition) for partition in range(PARTITIONS)]
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        #: Time of the first decision by key of the awaited groups; 0: none yet.
        self.seen: dict[str, float] = {}

    async def start(self) -> None:
        """Starts at the current end."""
        await self._consumer.start()
        self._consumer.assign(self._tps)
        await self._consumer.seek_to_end(*self._tps)

    async def read(self) -> None:
        """Reads new records, and records the times of first decisions."""
        for records in (await self._consumer.getmany(timeout_ms=20, max_records=50_000)).values():
            now = time.monotonic()
            for record in records:
                key = record.key.decode()
                if self.seen.get(key) == 0:
                    self.seen[key] = now

    async def skip(self) -> None:
        """Skips to the current end."""
        await self._consumer.seek_to_end(*self._tps)

    async def stop(self) -> None:
        """Disconnects."""
        await self._consumer.stop()


def start(bootstrap: str, state: Path) -> subprocess.Popen[bytes]:
    """Starts a worker."""
    command = worker_command("bench.recover.worker", bootstrap, PARTITIONS, state)
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})


def opening(groups: int) -> Iterator[tuple[str, bytes]]:
    """The first input of each group, which reserves one seat."""
    return (next(group_inputs(index)) for index in range(groups))


def of_closed(groups: int, begin: int, end: int | None) -> Iterator[tuple[str, bytes]]:
    """Inputs `begin` up to, not including, `end` of each group to settle."""
    for index in range(CLOSED_FROM, CLOSED_FROM + groups):
        yield from islice(closed_inputs(index), begin, end)


async def lag(bootstrap: str) -> int:
    """Number of inputs that the decider has not committed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await admin.start()
    await consumer.start()
    try:
        committed = await admin.list_consumer_group_offsets(DECIDER)
        ends = await consumer.end_offsets(list(committed))
        return sum(ends[tp] - found.offset for tp, found in committed.items())
    finally:
        await consumer.stop()
        await admin.close()


class Trial:
    """One worker that is killed repeatedly, and the groups that are opened meanwhile."""

    def __init__(self, bootstrap: str, producer: AIOKafkaProducer, log: Log) -> None:
        self._bootstrap = bootstrap
        self._producer = producer
        self._log = log
        self._chance = random.Random(2)
        self._probe = PROBES_FROM
        self.state = Path(tempfile.mkdtemp(prefix="bench-recover-"))
        self.worker = start(bootstrap, self.state)
        self.peak_mb = 0

    async def feed(self, inputs: Iterable[tuple[str, bytes]], what: str) -> None:
        """Appends inputs, and waits until all are decided and in a checkpoint."""
        await append(self._producer, INBOX.name, PARTITIONS, inputs)
        until = time.monotonic() + DEADLINE_S
        while await lag(self._bootstrap):
            if time.monotonic() > until:
                raise SystemExit("the inputs were not decided in time")
            await asyncio.sleep(0.5)
        # Until the last changes are in a checkpoint.
        await asyncio.sleep(CHECKPOINTS_S)
        print(f"{what}, {rss_mb(self.worker.pid)} MB", flush=True)

    async def kills(self, count: int) -> list[float]:
        """Kills the worker `count` times; returns the sorted recovery times in seconds."""
        await self._log.skip()
        times = []
        for number in range(count):
            times.append(await self.kill())
            print(f"kill {number + 1}: {times[-1]:.2f} s", flush=True)
            await self.rest()
        return sorted(times)

    async def kill(self, *, lose_state: bool = False) -> float:
        """Kills the worker; returns the seconds until a group opened after the kill has a decision."""
        self.stop()
        killed = time.monotonic()
        if lose_state:
            shutil.rmtree(self.state)
        self.worker = start(self._bootstrap, self.state)
        self._log.seen.clear()
        while time.monotonic() < killed + DEADLINE_S:
            self._probe += 1
            key, value = next(group_inputs(self._probe))
            self._log.seen[key] = 0
            partition = partition_of(key, PARTITIONS)
            await self._producer.send_and_wait(INBOX.name, value, key=key.encode(), partition=partition)
            await self._log.read()
            if decided := [at for at in self._log.seen.values() if at]:
                return min(decided) - killed
        raise SystemExit("no decision came after a kill")

    async def rest(self) -> None:
        """Lets the worker run for a while."""
        await asyncio.sleep(self._chance.uniform(0.5, 2.0))

    def stop(self) -> None:
        """Kills the worker with SIGKILL."""
        if self.worker.poll() is None:
            self.peak_mb = max(self.peak_mb, rss_mb(self.worker.pid))
            self.worker.kill()
        self.worker.wait()


async def measure(bootstrap: str, *, groups: int, closed: int, kills: int) -> dict[str, float]:
    """Fills the state, kills the worker, and measures."""
    await create_topics(bootstrap, ALL, partitions=PARTITIONS, replication=1)
    producer = new_producer(bootstrap)
    await producer.start()
    log = Log(bootstrap)
    await log.start()
    trial = Trial(bootstrap, producer, log)
    try:
        await trial.feed(opening(groups), f"{groups:,} groups are open")
        times = await trial.kills(kills)
        without = await trial.kill(lose_state=True)
        print(f"without a checkpoint: {without:.1f} s", flush=True)
        await trial.feed(of_closed(closed, 0, 1), f"{closed:,} more groups are open")
        await trial.feed(of_closed(closed, 1, None), f"{closed:,} groups are settled")
        with_closed = await trial.kills(kills)
    finally:
        trial.stop()
        await log.stop()
        await producer.stop()
        shutil.rmtree(trial.state, ignore_errors=True)
    return {
        "groups": groups,
        "closed": closed,
        "kills": kills,
        "p50_s": round(times[len(times) // 2], 2),
        "worst_s": round(times[-1], 2),
        "p50_with_closed_s": round(with_closed[len(with_closed) // 2], 2),
        "worst_with_closed_s": round(with_closed[-1], 2),
        "without_checkpoint_s": round(without, 1),
        "peak_rss_mb": trial.peak_mb,
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=int, default=1_000_000, help="open groups in state")
    parser.add_argument("--closed", type=int, default=1_000_000, help="settled groups in state in the second half")
    parser.add_argument("--kills", type=int, default=30, help="kills in each half")
    given = vars(parser.parse_args())
    with kafka() as bootstrap:
        found = asyncio.run(measure(bootstrap, **given))
    worst_s = max(found["worst_s"], found["worst_with_closed_s"])
    conclude(found, worst_s <= WANTED_S, found["peak_rss_mb"] <= WANTED_MB)


if __name__ == "__main__":
    main()
