"""A site: one inbox with its decision log, and workers that a test starts, arms and ends one by one."""

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
from tests.chaos.kernel.launch import WorkerProcess
from tests.chaos.kernel.load import load
from tests.chaos.kernel.refold import Verdict
from tests.chaos.kernel.run import PARTITIONS, exact, lag, verify
from tests.chaos.kernel.topics import topics
from tests.chaos.kernel.worker import ARMED_BY, READY
from tests.waiting import moment, wait_for_async

#: Kafka's shortest session time-out, so that the partitions of a dead worker soon move.
SESSION_S = 6.0
PATIENCE_S = 45.0
SETTLES_S = 10.0


class Site:
    """Has topics of its own; `close` kills the workers that still run."""

    def __init__(self, kafka: str, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.kafka = kafka
        self.tag = uuid4().hex[:12]
        self.inbox, self.log = topics(self.tag)
        self.directory = directory
        self._environment = dict(environment or {})
        self._loads = 0
        self._processes: list[WorkerProcess] = []

    async def open(self) -> None:
        """Creates the topics."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await create_topics(self.kafka, [self.inbox, self.log], partitions=PARTITIONS, replication=1)

    async def feed(self, facts: int = 150, *, aggregates: int = 60, seconds: float = 0.05) -> None:
        """Appends inputs for new aggregates, since old ones may be closed and then decide nothing."""
        self._loads += 1
        new, seed = f"{self._loads}-", self._loads
        await load(
            self.kafka, self.inbox.name, facts=facts, aggregates=aggregates, seconds=seconds, seed=seed, prefix=new
        )

    def start(self, instance: str = "w0", *, crash_at: str = "", arm: str = "", stop_at: str = "") -> WorkerProcess:
        """Starts a worker that is killed at `crash_at`, or at `arm` after `Site.arm`, or gets SIGTERM at `stop_at`."""
        arguments = ["--kafka", self.kafka, "--tag", self.tag, "--instance", instance]
        arguments += ["--state-dir", str(self.directory / instance)]
        arguments += ["--checkpoint", "0.3", "--session", str(SESSION_S), "--arm", arm]
        arguments += ["--stop-at", stop_at]
        environment = {**self._environment, failpoints.VARIABLE: crash_at}
        process = WorkerProcess(arguments, self.log_of(instance), environment)
        self._processes.append(process)
        return process

    def log_of(self, instance: str) -> Path:
        """The log of the workers of a name."""
        return self.directory / f"{instance}.log"

    def delete_state(self, instance: str) -> None:
        """Deletes a worker's state directory."""
        shutil.rmtree(self.directory / instance)

    async def wait_for_log(self, instance: str, text: str, *, times: int = 1) -> None:
        """Waits until the log of a name contains a text so many times."""

        async def holds() -> bool:
            log = self.log_of(instance)
            return log.exists() and log.read_text(errors="replace").count(text) >= times

        await wait_for_async(holds, seconds=PATIENCE_S)

    async def wait_started(self, instance: str, *, times: int = 1) -> None:
        """Waits until so many workers of a name, one after the other, have been ready."""
        await self.wait_for_log(instance, READY, times=times)

    async def arm(self, process: WorkerProcess, instance: str = "w0") -> None:
        """Arms the failpoint of a worker."""
        before = self.log_of(instance).read_text(errors="replace").count(ARMED_BY)
        process.send_signal(signal.SIGUSR1)
        await self.wait_for_log(instance, ARMED_BY, times=before + 1)

    async def wait_exit(self, process: WorkerProcess) -> int:
        """Waits for the end of a worker, and returns its exit code."""

        async def ended() -> bool:
            return process.code is not None

        await wait_for_async(ended, seconds=20, every=0.05)
        assert process.code is not None
        return process.code

    async def wait_drained(self, seconds: float = PATIENCE_S) -> None:
        """Waits until the whole inbox is committed."""

        async def holds() -> bool:
            return await lag(self.kafka, self.inbox.readers[0]) == 0

        await wait_for_async(holds, seconds=seconds)

    async def ends(self, topic: TopicSpec) -> dict[int, int]:
        """The end of each partition of a topic."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka)
        await consumer.start()
        try:
            tps = [TopicPartition(topic.name, partition) for partition in range(PARTITIONS)]
            return {tp.partition: end for tp, end in (await consumer.end_offsets(tps)).items()}
        finally:
            await consumer.stop()

    async def verdict(self) -> Verdict:
        """The comparison with the independent fold."""
        return await verify(self.kafka, self.inbox, self.log)

    async def settled_counts(self) -> dict[str, int]:
        """The counts of the comparison. Compares again for SETTLES_S while they are not exact, then prints the verdict.

        A tick may be appended and decided between the reads.
        """
        until = time.monotonic() + SETTLES_S
        while not exact((verdict := await self.verdict()).counts) and time.monotonic() < until:
            await moment(0.2)
        if not exact(verdict.counts):
            print(verdict, flush=True)
        return verdict.counts

    def close(self) -> None:
        """Kills the workers that still run."""
        for process in self._processes:
            process.kill()

    async def __aenter__(self) -> Site:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)
