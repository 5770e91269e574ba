"""Waits for the broker and its topics at start, and reports afterwards whether the broker is available.

Creates no topics: a service that creates what is missing hides a loss. `groupbuy-ops topics create` declares the number
of partitions last, so a declared number means that the topics are complete. If committed offsets are missing then, the
broker has forgotten them, and the processors find their positions without them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from chassis.lifecycle.backoff import retries_until_success
from chassis.telemetry.logging import silenced
from eventlog.broker.security import Kafka, client
from eventlog.broker.topic_checks import check_topics
from eventlog.core.errors import TopicsDiffer
from eventlog.records.topic_spec import TopicSpec
from shared_kernel.log_registry import CREATE, declared

log = structlog.stdlib.get_logger(__name__)

#: Timeout of a request to the broker, in seconds.
REQUEST_TIMEOUT_S = 3.0
#: Seconds between two probes.
PROBE_INTERVAL_S = 1.0
#: Failed probes in a row after which the broker counts as unavailable.
FAILED_PROBES = 2
#: Seconds in which topics may still be created. Without a declared number of partitions after that, the start fails.
DECLARED_GRACE_S = 60.0

#: Errors of a broker that is unavailable.
UNAVAILABLE = (KafkaError, OSError, TimeoutError)


class _NotReady(Exception):
    """The service can't start yet. The message has the reason."""


class BrokerHealth:
    """The broker's availability for one service."""

    def __init__(self, kafka: Kafka, topics: Sequence[TopicSpec], service: str) -> None:
        self._kafka = kafka
        self._topics = tuple(topics)
        self._service = service
        self._admin: AIOKafkaAdminClient | None = None
        self._declared: int | None = None
        #: Whether the broker answered one of the last probes.
        self.available = False

    async def wait(self) -> int:
        """Returns the number of partitions of every topic once the broker and all topics exist. Retries for ever.

        Raises TopicsDiffer if the topics differ from the registry.
        """
        since = time.monotonic()
        with silenced("aiokafka"):
            async for attempt in retries_until_success(_NotReady):
                with attempt:
                    try:
                        return await self._ready(grace_is_over=time.monotonic() - since > DECLARED_GRACE_S)
                    except _NotReady as reason:
                        log.warning(f"{reason}; retrying in {attempt.next_wait:.1f} s")
                        raise
        raise AssertionError("unreachable: the retries do not end")

    async def watch(self) -> None:
        """Keeps `available` up to date until cancelled. Run it as a task once `wait` has returned."""
        failed = 0
        while True:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    admin = await self._client()
                    # One topic: decoding the metadata of a whole cluster delays calls noticeably.
                    await admin.describe_topics([self._topics[0].name])
            except Exception as error:  # noqa: BLE001 - any error means that the broker did not answer
                log.debug("the broker did not answer", error=repr(error))
                failed += 1
                if failed == FAILED_PROBES:
                    await self._disconnect()
            else:
                failed = 0
            self.available = failed < FAILED_PROBES
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def close(self) -> None:
        """Closes the connection."""
        self.available = False
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
                request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            )
            try:
                await admin.start()
            except BaseException:
                await admin.close()
                raise
            self._admin = admin
        return self._admin

    async def _ready(self, *, grace_is_over: bool) -> int:
        """The number of partitions. Raises _NotReady while something is missing, and TopicsDiffer."""
        try:
            admin = await self._client()
            await self._require_topics(admin, grace_is_over)
            partitions = await check_topics(self._kafka, self._topics, partitions=self._declared)
            await self._log_forgotten_offsets(admin)
        except UNAVAILABLE as error:
            log.debug("the broker did not answer", error=repr(error))
            # The broker may come back at another address.
            await self._disconnect()
            raise _NotReady(f"broker {self._kafka} is unavailable") from error
        self.available = True
        return partitions

    async def _require_topics(self, admin: AIOKafkaAdminClient, grace_is_over: bool) -> None:
        # A topic is not described by name before it exists: a broker with auto.create.topics.enable creates it.
        existing = set(await admin.list_topics())
        missing = [topic.name for topic in self._topics if topic.name not in existing]
        if missing:
            few = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            raise _NotReady(f"the broker has no topics {few}: create them with {CREATE}")
        self._declared = await declared(self._kafka)
        if self._declared is None and grace_is_over:
            raise TopicsDiffer(f"no number of partitions is declared: run {CREATE} again, it did not end")
        if self._declared is None:
            raise _NotReady(f"no number of partitions is declared yet: {CREATE} must end first")

    async def _log_forgotten_offsets(self, admin: AIOKafkaAdminClient) -> None:
        unknown = await self._readers_without_offsets(admin)
        if unknown:
            log.warning("the broker has forgotten committed offsets; positions come from our own logs", groups=unknown)

    async def _readers_without_offsets(self, admin: AIOKafkaAdminClient) -> list[str]:
        """Our consumer groups that lack committed offsets for a topic they read."""
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
