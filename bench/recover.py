"""bench-recover: from SIGKILL to the first new decision, with many open groups in state, again and again.

A group is opened every few milliseconds throughout; a kill is over when a decision of a group opened after it stands in
the log. The worker is started again at once. Prints one JSON object as its last line; exits 1 when the claim fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("BENCH_TAG", str(os.getpid()))

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # noqa: E402 - the tag comes first

from bench.evening import group_inputs  # noqa: E402
from bench.fold_topics import ALL, INBOX, LOG  # noqa: E402
from bench.memory import rss_mb  # noqa: E402
from deploy.kafka.broker import Broker  # noqa: E402
from eventlog.topics import create, partition_of  # noqa: E402

PARTITIONS = 4
WANTED_S = 5.0
WANTED_MB = 400
DEADLINE_S = 600.0
#: An index that no group of the filling has.
PROBES_FROM = 10**9


class Log:
    """The decision log as it grows."""

    def __init__(self, kafka: str) -> None:
        self._tps = [TopicPartition(LOG.name, partition) for partition in range(PARTITIONS)]
        self._consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
        self.keys: dict[str, float] = {}
        self.count = 0

    async def start(self) -> None:
        """Begins at the present end."""
        await self._consumer.start()
        self._consumer.assign(self._tps)
        await self._consumer.seek_to_end(*self._tps)

    async def read(self) -> None:
        """Notes what has come."""
        for records in (await self._consumer.getmany(timeout_ms=20, max_records=50_000)).values():
            now = time.monotonic()
            self.count += len(records)
            for record in records:
                self.keys.setdefault(record.key.decode(), now)

    async def stop(self) -> None:
        """Disconnects."""
        await self._consumer.stop()


def start(kafka: str, state: Path) -> subprocess.Popen[bytes]:
    """A worker."""
    command = [sys.executable, "-m", "bench.recover_worker", "--kafka", kafka, "--partitions", str(PARTITIONS)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.Popen([*command, "--state-dir", str(state)], cwd=ROOT, env=environment)


async def fill(producer: AIOKafkaProducer, groups: int) -> None:
    """Opens so many groups, with one seat reserved in each."""
    pending = []
    for index in range(groups):
        key, value = next(group_inputs(index))
        pending.append(
            await producer.send(INBOX.name, value, key=key.encode(), partition=partition_of(key, PARTITIONS))
        )
        if len(pending) >= 20_000:
            await asyncio.gather(*pending)
            pending = []
    await asyncio.gather(*pending)


class Trial:
    """One worker that is killed again and again, and the groups that are opened meanwhile."""

    def __init__(self, kafka: str, producer: AIOKafkaProducer, log: Log) -> None:
        self._kafka = kafka
        self._producer = producer
        self._log = log
        self._chance = random.Random(2)
        self._probe = PROBES_FROM
        self.state = Path(tempfile.mkdtemp(prefix="bench-recover-"))
        self.worker = start(kafka, self.state)
        self.peak_mb = 0

    async def fill(self, groups: int) -> None:
        """Opens the groups, waits until all are decided and kept."""
        await fill(self._producer, groups)
        while self._log.count < groups:
            await self._log.read()
        print(f"{groups:,} groups are open, {rss_mb(self.worker.pid)} MB", flush=True)
        # The last changes are kept within the checkpoint's age.
        await asyncio.sleep(8)

    async def kill(self, *, lose_state: bool = False) -> float:
        """Kills the worker; returns the seconds until a group that was opened since has a decision."""
        self.stop()
        killed = time.monotonic()
        if lose_state:
            shutil.rmtree(self.state)
        self.worker = start(self._kafka, self.state)
        since: list[str] = []
        while time.monotonic() < killed + DEADLINE_S:
            self._probe += 1
            key, value = next(group_inputs(self._probe))
            since.append(key)
            partition = partition_of(key, PARTITIONS)
            await self._producer.send_and_wait(INBOX.name, value, key=key.encode(), partition=partition)
            await self._log.read()
            decided = [self._log.keys[one] for one in since if one in self._log.keys]
            if decided:
                return min(decided) - killed
        raise SystemExit("no decision came after a kill")

    async def rest(self) -> None:
        """Lets it work for a while."""
        await asyncio.sleep(self._chance.uniform(0.5, 2.0))

    def stop(self) -> None:
        """SIGKILL."""
        if self.worker.poll() is None:
            self.peak_mb = max(self.peak_mb, rss_mb(self.worker.pid))
            self.worker.kill()
        self.worker.wait()


async def measure(kafka: str, *, groups: int, kills: int) -> dict[str, float]:
    """Fills, kills, and measures."""
    await create(kafka, ALL, partitions=PARTITIONS, replication=1)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=20, max_batch_size=512 * 1024)
    await producer.start()
    log = Log(kafka)
    await log.start()
    trial = Trial(kafka, producer, log)
    try:
        await trial.fill(groups)
        times = []
        for number in range(kills):
            times.append(await trial.kill())
            print(f"kill {number + 1}: {times[-1]:.2f} s", flush=True)
            await trial.rest()
        without = await trial.kill(lose_state=True)
        print(f"without a checkpoint: {without:.1f} s", flush=True)
    finally:
        trial.stop()
        await log.stop()
        await producer.stop()
        shutil.rmtree(trial.state, ignore_errors=True)
    times.sort()
    return {
        "groups": groups,
        "kills": kills,
        "p50_s": round(times[len(times) // 2], 2),
        "p99_s": round(times[-1], 2),
        "without_checkpoint_s": round(without, 1),
        "peak_rss_mb": trial.peak_mb,
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=30)
    given = vars(parser.parse_args())
    if kafka := os.environ.get("KAFKA"):
        found = asyncio.run(measure(kafka, **given))
    else:
        broker = Broker()
        broker.start(Path(tempfile.mkdtemp(prefix=f"bench-kafka-{uuid4().hex[:6]}-")))
        try:
            found = asyncio.run(measure(broker.bootstrap, **given))
        finally:
            broker.release()
    print(json.dumps(found))
    sys.exit(0 if found["p99_s"] <= WANTED_S and found["peak_rss_mb"] <= WANTED_MB else 1)


if __name__ == "__main__":
    main()
