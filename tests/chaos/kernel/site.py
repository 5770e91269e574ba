"""One inbox with its decision log, and workers on it that a test starts, arms and ends one by one."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, TopicPartition

from eventlog.admin.topic_creation import create_topics
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime import failpoints
from tests.chaos.kernel.launch import Launched
from tests.chaos.kernel.load import load
from tests.chaos.kernel.refold import Verdict
from tests.chaos.kernel.run import PARTITIONS, exact, judge, lag
from tests.chaos.kernel.topics import topics
from tests.chaos.kernel.worker import ARMED_BY, READY
from tests.waiting import moment, wait_for_async

#: Kafka's shortest, so that the partitions of a worker that died for good soon go to another.
SESSION_S = 6.0
PATIENCE_S = 45.0
SETTLES_S = 10.0


class Site:
    """Its topics are its own; `close` ends whatever still runs."""

    def __init__(self, kafka: str, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.kafka = kafka
        self.tag = uuid4().hex[:12]
        self.inbox, self.log = topics(self.tag)
        self.directory = directory
        self._environment = dict(environment or {})
        self._loads = 0
        self._processes: list[Launched] = []

    async def open(self) -> None:
        """Makes the topics."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await create_topics(self.kafka, [self.inbox, self.log], partitions=PARTITIONS, replication=1)

    async def feed(self, facts: int = 150, *, aggregates: int = 60, seconds: float = 0.05) -> None:
        """Appends facts about new aggregates: the old ones may be over, and what is over decides nothing."""
        self._loads += 1
        new, seed = f"{self._loads}-", self._loads
        await load(
            self.kafka, self.inbox.name, facts=facts, aggregates=aggregates, seconds=seconds, seed=seed, prefix=new
        )

    def start(self, instance: str = "w0", *, crash_at: str = "", arm: str = "", stop_at: str = "") -> Launched:
        """Starts a worker that dies at `crash_at`, or at `arm` once it is told (`tell`), or is to end at `stop_at`."""
        arguments = ["--kafka", self.kafka, "--tag", self.tag, "--instance", instance]
        arguments += ["--state-dir", str(self.directory / instance)]
        arguments += ["--checkpoint", "0.3", "--session", str(SESSION_S), "--arm", arm]
        arguments += ["--stop-at", stop_at]
        environment = {**self._environment, failpoints.VARIABLE: crash_at}
        process = Launched(arguments, self.log_of(instance), environment)
        self._processes.append(process)
        return process

    def log_of(self, instance: str) -> Path:
        """What the workers of a name say."""
        return self.directory / f"{instance}.log"

    def forget(self, instance: str) -> None:
        """Deletes a worker's state directory."""
        shutil.rmtree(self.directory / instance)

    async def said(self, instance: str, text: str, *, times: int = 1) -> None:
        """Waits until workers of a name have said something so often."""

        async def so() -> bool:
            log = self.log_of(instance)
            return log.exists() and log.read_text(errors="replace").count(text) >= times

        await wait_for_async(so, seconds=PATIENCE_S)

    async def started(self, instance: str, *, times: int = 1) -> None:
        """Waits until the so many-th worker of a name is ready."""
        await self.said(instance, READY, times=times)

    async def tell(self, process: Launched, instance: str = "w0") -> None:
        """Arms a worker's crash point."""
        before = self.log_of(instance).read_text(errors="replace").count(ARMED_BY)
        process.send_signal(signal.SIGUSR1)
        await self.said(instance, ARMED_BY, times=before + 1)

    async def end_of(self, process: Launched) -> int:
        """Its exit code, once it has ended."""

        async def ended() -> bool:
            return process.code is not None

        await wait_for_async(ended, seconds=20, every=0.05)
        assert process.code is not None
        return process.code

    async def drained(self, seconds: float = PATIENCE_S) -> None:
        """Waits until all of the inbox is committed."""

        async def so() -> bool:
            return await lag(self.kafka, self.inbox.readers[0]) == 0

        await wait_for_async(so, seconds=seconds)

    async def ends(self, topic: TopicSpec) -> dict[int, int]:
        """Next offset of each partition of one of its topics."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka)
        await consumer.start()
        try:
            tps = [TopicPartition(topic.name, partition) for partition in range(PARTITIONS)]
            return {tp.partition: end for tp, end in (await consumer.end_offsets(tps)).items()}
        finally:
            await consumer.stop()

    async def verdict(self) -> Verdict:
        """The comparison with the independent fold."""
        return await judge(self.kafka, self.inbox, self.log)

    async def settled_counts(self) -> dict[str, int]:
        """Its counts once it is exact, or what stays wrong: a tick may come, and be decided, between the reads. Says
        where each partition stands if something stays wrong."""
        until = time.monotonic() + SETTLES_S
        while not exact((verdict := await self.verdict()).counts) and time.monotonic() < until:
            await moment(0.2)
        if not exact(verdict.counts):
            print(verdict, flush=True)
        return verdict.counts

    def close(self) -> None:
        """Ends what still runs."""
        for process in self._processes:
            process.kill()

    async def __aenter__(self) -> Site:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)
