"""Kills, freezes and doubles the kernel's workers under load, then compares the log with an independent fold.

`python -m tests.chaos.kernel.run --kafka HOST:PORT` runs the long form and prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from eventlog.topics import create
from tests.chaos.kernel.late_proxy import LateProxy
from tests.chaos.kernel.load import load
from tests.chaos.kernel.refold import compare, read
from tests.chaos.kernel.topics import topics
from tests.waiting import moment

PARTITIONS = 4
SESSION_S = 10.0


class Workers:
    """Two workers that are killed, frozen and started again."""

    def __init__(self, kafka: str, tag: str, directory: Path, producer: str) -> None:
        self._kafka, self._tag, self._directory, self._producer = kafka, tag, directory, producer
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._frozen_names: set[str] = set()
        #: Also those whose name another process has taken.
        self._all: list[subprocess.Popen[bytes]] = []
        self._starts = 0
        self.codes: dict[int, int] = {}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Starts a worker; beside a frozen one of the same name it is a second process with the same instance id."""
        self._starts += 1
        command = [sys.executable, "-m", "tests.chaos.kernel.worker", "--kafka", self._kafka, "--tag", self._tag]
        # A second process of one instance needs a directory of its own, RocksDB locks it.
        state = self._directory / f"{name}.{self._starts if name in self._frozen_names else 0}"
        command += ["--instance", name, "--state-dir", str(state), "--producer", self._producer]
        with (self._directory / f"{name}.{self._starts:03d}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self._processes[name] = process
        self._all.append(process)
        return process

    def restart_ended(self) -> None:
        """What a supervisor does."""
        for name, process in list(self._processes.items()):
            if process.poll() is not None:
                self.codes[process.returncode] = self.codes.get(process.returncode, 0) + 1
                self.start(name)

    def kill(self, name: str) -> None:
        process = self._processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.start(name)

    def freeze(self, name: str, *, double: bool) -> subprocess.Popen[bytes]:
        """Stops a worker in its tracks; with `double` another process takes its name meanwhile."""
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)
        if double:
            self._frozen_names = {name}
            self.start(name)
            self._frozen_names = set()
        return process

    def stop(self) -> None:
        for process in self._all:
            process.send_signal(signal.SIGTERM)
        for process in self._all:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


async def lag(kafka: str, group: str) -> int:
    """Records of the inbox that are not committed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(group)
        ends = await admin.list_offsets(dict.fromkeys(committed, -1)) if hasattr(admin, "list_offsets") else None
    finally:
        await admin.close()
    if ends is None:
        return await _lag_by_consumer(kafka, {tp: meta.offset for tp, meta in committed.items()})
    return sum(ends[tp].offset - meta.offset for tp, meta in committed.items())


async def _lag_by_consumer(kafka: str, committed: dict[object, int]) -> int:
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(committed))
    finally:
        await consumer.stop()
    return sum(ends[tp] - offset for tp, offset in committed.items())


async def chaos(
    kafka: str,
    *,
    facts: int,
    aggregates: int,
    seconds: float,
    kills: int,
    freezes: int,
    seed: int = 1,
    broker_restart: Callable[[], Awaitable[None]] | None = None,
    broker_restarts: int = 0,
    directory: Path | None = None,
) -> dict[str, int]:
    """One run. Returns the comparison's counts, with how often what was done."""
    tag = f"{os.getpid()}-{seed}-{time.time_ns() % 10**9}"
    inbox, log = topics(tag)
    await create(kafka, [inbox, log], partitions=PARTITIONS, replication=1)
    proxy = LateProxy(kafka, seed=seed)
    await proxy.start()
    chance = random.Random(seed)
    where = directory or Path(tempfile.mkdtemp(prefix="kernel-chaos-"))
    workers = Workers(kafka, tag, where, proxy.address)
    done = {"kills": 0, "freezes": 0, "broker_restarts": 0}
    names = ("w0", "w1")
    for name in names:
        workers.start(name)
    loading = asyncio.create_task(load(kafka, inbox.name, facts=facts, aggregates=aggregates, seconds=seconds))
    began = time.monotonic()
    frozen: list[tuple[float, subprocess.Popen[bytes]]] = []
    plan = [(seconds * (n + 1) / (kills + 1), "kill") for n in range(kills)]
    plan += [(seconds * (n + 0.6) / (freezes + 1), "freeze") for n in range(freezes)]
    plan += [(seconds * (n + 0.8) / (broker_restarts + 1), "broker") for n in range(broker_restarts)]
    plan.sort()
    try:
        while plan or frozen or not loading.done():
            await moment()
            workers.restart_ended()
            now = time.monotonic()
            for entry in list(frozen):
                if now >= entry[0]:
                    entry[1].send_signal(signal.SIGCONT)
                    frozen.remove(entry)
            if not plan or now - began < plan[0][0]:
                continue
            _, what = plan.pop(0)
            name = chance.choice(names)
            if what == "kill":
                workers.kill(name)
                done["kills"] += 1
            elif what == "freeze":
                process = workers.freeze(name, double=chance.random() < 0.5)
                frozen.append((now + SESSION_S + chance.uniform(2, 6), process))
                done["freezes"] += 1
            elif broker_restart is not None:
                await broker_restart()
                done["broker_restarts"] += 1
        keys = await loading
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            workers.restart_ended()
            if await lag(kafka, inbox.readers[0]) == 0:
                break
            await moment(0.5)
    finally:
        for _, process in frozen:
            process.send_signal(signal.SIGCONT)
        workers.stop()
        await proxy.stop()
    counts = compare(await read(kafka, inbox.name, PARTITIONS), await read(kafka, log.name, PARTITIONS))
    return {
        **counts,
        **done,
        "aggregates": keys,
        "late_after_death": proxy.late_after_death,
        "ends": len(workers.codes),
    }


def exact(counts: dict[str, int]) -> bool:
    """Whether nothing is missing, extra, wrong, conflicting or out of order."""
    return not any(counts[name] for name in ("missing", "extra", "wrong", "conflicting", "out_of_order"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--facts", type=int, default=200_000)
    parser.add_argument("--aggregates", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--freezes", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    given = vars(parser.parse_args())
    counts = asyncio.run(chaos(given.pop("kafka"), **given))
    print(json.dumps(counts))
    sys.exit(0 if exact(counts) else 1)


if __name__ == "__main__":
    main()
