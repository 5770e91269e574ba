"""Waits until the broker and its topics are there, and says afterwards whether the broker still is.

Makes no topics: a service that makes what it misses hides that something was lost. `groupbuy-ops topics create`
declares the number of partitions last, so a declared number says that the topics are complete. Committed offsets that
are missing after that were forgotten by the broker, and the processors find their place without them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from chassis.telemetry.logging import silenced
from eventlog.broker.security import Kafka, client
from eventlog.broker.topic_checks import check_topics
from eventlog.core.errors import TopicsDiffer
from eventlog.records.topic_spec import TopicSpec
from shared_kernel.log_registry import CREATE, declared

log = structlog.stdlib.get_logger(__name__)

FIRST_WAIT_S = 0.3
MAX_WAIT_S = 2.0
#: Seconds that the broker gets to answer a question.
ANSWER_S = 3.0
#: Seconds between two questions whether it is still there.
PROBE_S = 1.0
#: Questions without an answer, in a row, after which it is not.
FAILED_PROBES = 2
#: Seconds after which topics without a declared number of partitions are an error, and not still being made.
DECLARED_GRACE_S = 60.0

_FAILURES = (KafkaError, OSError, TimeoutError)


def waits() -> Iterator[float]:
    """Seconds to wait after each failure: doubling up to LONGEST_WAIT_S, and less by chance, never at once."""
    longest = FIRST_WAIT_S
    while True:
        yield longest * random.uniform(0.5, 1.0)
        longest = min(longest * 2, MAX_WAIT_S)


class BrokerHealth:
    """The broker as one service sees it."""

    def __init__(self, kafka: Kafka, topics: Sequence[TopicSpec], service: str) -> None:
        self._kafka = kafka
        self._topics = tuple(topics)
        self._service = service
        self._admin: AIOKafkaAdminClient | None = None
        self._declared: int | None = None
        #: Whether it answered lately.
        self.there = False

    async def wait(self) -> int:
        """Returns the number of partitions of every topic once all is there, trying for ever.

        Raises TopicsDiffer when topics are there that are not what the registry says.
        """
        since = time.monotonic()
        with silenced("aiokafka"):
            for delay_s in waits():
                try:
                    trouble = await self._trouble(time.monotonic() - since > DECLARED_GRACE_S)
                    if trouble is None:
                        partitions = await check_topics(self._kafka, self._topics, partitions=self._declared)
                        await self._tell_forgotten_offsets()
                        self.there = True
                        return partitions
                except _FAILURES as error:
                    trouble = f"broker {self._kafka} is not there"
                    log.debug("no answer from the broker", error=repr(error))
                    # It may come back somewhere else.
                    await self._disconnect()
                log.warning(f"{trouble}, trying again in {delay_s:.1f} s")
                await asyncio.sleep(delay_s)
        raise AssertionError("unreachable: the waits never end")

    async def watch(self) -> None:
        """Keeps `there` up to date, for ever. Run it as a task once `wait` has returned."""
        failed = 0
        while True:
            try:
                async with asyncio.timeout(ANSWER_S):
                    admin = await self._client()
                    # One topic: a cluster's whole metadata takes long enough to decode to be felt by calls.
                    await admin.describe_topics([self._topics[0].name])
            except Exception as error:  # noqa: BLE001 - whatever the client makes of it, there was no answer
                log.debug("no answer from the broker", error=repr(error))
                failed += 1
                if failed == FAILED_PROBES:
                    await self._disconnect()
            else:
                failed = 0
            self.there = failed < FAILED_PROBES
            await asyncio.sleep(PROBE_S)

    async def close(self) -> None:
        """Lets go of the connection."""
        self.there = False
        await self._disconnect()

    async def _disconnect(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()

    async def _client(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            admin = AIOKafkaAdminClient(
                **client(self._kafka),
                client_id=f"groupbuy.{self._service}.health",
                request_timeout_ms=int(ANSWER_S * 1000),
            )
            try:
                await admin.start()
            except BaseException:
                await admin.close()
                raise
            self._admin = admin
        return self._admin

    async def _trouble(self, grace_is_over: bool) -> str | None:
        """What is still to come before the service can start, None if nothing is."""
        admin = await self._client()
        # Never asked for by name before they are known to exist: a broker may be set to make what is asked for.
        existing = set(await admin.list_topics())
        missing = [topic.name for topic in self._topics if topic.name not in existing]
        if missing:
            few = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            return f"the broker has no topics {few}: make them with {CREATE}"
        self._declared = await declared(self._kafka)
        if self._declared is None and grace_is_over:
            raise TopicsDiffer(f"no number of partitions is declared: run {CREATE} again, it did not end")
        if self._declared is None:
            return f"no number of partitions is declared yet: {CREATE} must end first"
        return None

    async def _tell_forgotten_offsets(self) -> None:
        unknown = await self._readers_without_offsets(await self._client())
        if unknown:
            log.warning("the broker has forgotten committed offsets, going on from what was written", groups=unknown)

    async def _readers_without_offsets(self, admin: AIOKafkaAdminClient) -> list[str]:
        """Our consumer groups for which not every topic they read has offsets."""
        readers: dict[str, set[str]] = {}
        for topic in self._topics:
            for reader in topic.readers:
                if reader.startswith(f"groupbuy.{self._service}."):
                    readers.setdefault(reader, set()).add(topic.name)
        unknown = []
        for reader, wanted in readers.items():
            committed = await admin.list_consumer_group_offsets(reader)
            if wanted - {tp.topic for tp, found in committed.items() if found.offset >= 0}:
                unknown.append(reader)
        return unknown
