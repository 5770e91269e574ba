"""One run of a worker: it processes a topic on one core, and its output is compared with the expected fold.

The rates come from the broker's timestamps in the output, so they are taken in the same way of every worker. A worker
is finished when its consumer group has committed the end of the input.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from bench.command import ROOT
from bench.memory import rss_mb
from bench.peers.messages import VARIABLE

#: The core of the worker. The broker has the other one.
CORE = 1
POLL_S = 0.1
LONGEST_S = 600.0
#: Seconds that a worker has to stop.
STOP_S = 10.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

#: Reads facts, units and amount from the value of an output record.
ReadTotals = Callable[[bytes], tuple[int, int, int]]


class Found(NamedTuple):
    """The figures of one run. `wrong` counts outputs that differ from the expected fold, are missing or too many."""

    facts: int
    per_s: float
    #: The rate at which the second half of the output was written.
    warm_per_s: float
    cpu_us: float
    peak_mb: int
    wrong: int


async def run(
    kafka: str,
    command: Sequence[str],
    *,
    group: str,
    source: str,
    target: str,
    partitions: int,
    messages: Path,
    expected: Mapping[bytes, array[int]],
    read: ReadTotals,
) -> Found:
    """Runs a worker over `source`, then checks `target`."""
    facts = sum(len(totals) // 2 for totals in expected.values())
    with tempfile.TemporaryDirectory(prefix="bench-peers-", ignore_cleanup_errors=True) as state:
        arguments = [kafka, group, source, target, state]
        log = messages.with_name(f"{group.rpartition('.')[2]}.log")
        environment = {**os.environ, VARIABLE: str(messages)}
        worker = await _start([*command, *arguments], environment, log)
        try:
            await _until_committed(kafka, worker, group, source, partitions, log)
            used_s, peak_mb = _cpu_s(worker.pid), rss_mb(worker.pid)
        finally:
            await _stop(worker)
    times, wrong = await check(kafka, target, partitions, expected, read)
    times.sort()
    took_s = max(times[-1] - times[0], 1) / 1e3
    half = len(times) // 2
    warm_s = max(times[-1] - times[half], 1) / 1e3
    return Found(facts, facts / took_s, (len(times) - half) / warm_s, used_s / facts * 1e6, peak_mb, wrong)


async def _start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> asyncio.subprocess.Process:
    """Starts a worker on its core. It inherits the core: Java counts its cores when it starts."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORE})
    try:
        with log.open("wb") as output:
            return await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
    finally:
        os.sched_setaffinity(0, cores)


async def _stop(worker: asyncio.subprocess.Process) -> None:
    if worker.returncode is None:
        worker.terminate()
        try:
            await asyncio.wait_for(worker.wait(), STOP_S)
        except TimeoutError:
            worker.kill()
            await worker.wait()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def _until_committed(
    kafka: str, worker: asyncio.subprocess.Process, group: str, source: str, partitions: int, log: Path
) -> None:
    """Waits until the group has committed the end of the topic. Raises SystemExit if the worker ends or takes long."""
    tps = [TopicPartition(source, partition) for partition in range(partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(tps)
    finally:
        await consumer.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline:
            committed = await admin.list_consumer_group_offsets(group)
            if all(tp in committed and committed[tp].offset >= end for tp, end in ends.items()):
                return
            if worker.returncode is not None:
                raise SystemExit(f"{group}: the worker ended with code {worker.returncode}, see {log}")
            await asyncio.sleep(POLL_S)
    finally:
        await admin.close()
    raise SystemExit(f"{group}: not finished after {LONGEST_S:.0f} s, see {log}")


async def check(
    kafka: str, topic: str, partitions: int, expected: Mapping[bytes, array[int]], read: ReadTotals
) -> tuple[list[int], int]:
    """Reads what is committed of an output topic. Returns the time of each record in ms, and the number of wrong ones.

    The n-th output of a group must have the totals after its n-th fact.
    """
    tps = [TopicPartition(topic, partition) for partition in range(partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False, isolation_level="read_committed")
    await consumer.start()
    times: list[int] = []
    seen: Counter[bytes] = Counter()
    wrong = 0
    try:
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        left = {tp for tp in tps if ends[tp]}
        deadline = time.monotonic() + LONGEST_S
        while left and time.monotonic() < deadline:
            fetched: dict[TopicPartition, list[Any]] = await consumer.getmany(*left, timeout_ms=200, max_records=20_000)
            for records in fetched.values():
                for record in records:
                    number = seen[record.key]
                    seen[record.key] = number + 1
                    times.append(record.timestamp)
                    totals = expected.get(record.key, ())
                    right = number * 2 < len(totals) and read(record.value) == (
                        number + 1,
                        totals[2 * number],
                        totals[2 * number + 1],
                    )
                    wrong += not right
            left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
    finally:
        await consumer.stop()
    missing = sum(max(len(totals) // 2 - seen[key], 0) for key, totals in expected.items())
    return times, wrong + missing
