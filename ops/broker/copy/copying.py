"""Parts of commands that copy topics record by record, with offsets and times: `topics rebuild` and `topics copy`."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from eventlog.admin.topic_creation import creation_config, wait_until_listed
from eventlog.records.topic_spec import TopicSpec
from ops.errors import cannot_run

#: Records in flight.
MAX_IN_FLIGHT = 2_000
KNOWN_S = 30.0
_TIMES = "message.timestamp.type"


def copying_settings(spec: TopicSpec, replication: int) -> dict[str, str]:
    """Settings of a topic during a copy: records keep their times, and nothing is deleted."""
    settings = creation_config(spec, replication)
    return {**settings, _TIMES: "CreateTime", "retention.ms": "-1", "cleanup.policy": "delete"}


async def is_being_copied(admin: Any, name: str) -> bool:
    """Whether a topic has the settings of an unfinished copy. It gets its own settings last, so others are complete."""
    response = (await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)]))[0]
    times = next(str(entry[1]) for row in response.resources for entry in row[4] if entry[0] == _TIMES)
    return times == "CreateTime"


async def make_topic(admin: Any, name: str, partitions: int, replication: int, settings: dict[str, str]) -> None:
    """Creates a topic, and returns when the broker lists it. Raises OpsError."""
    reply = await admin.create_topics([NewTopic(name, partitions, replication, topic_configs=settings)])
    for _, code, *rest in reply.topic_errors:
        if code:
            raise cannot_run(f"the broker did not create {name}: {for_code(code).__name__} {rest}")
    await wait_until_listed(admin, [name], within_s=KNOWN_S)


async def change_settings(admin: Any, name: str, settings: dict[str, str]) -> None:
    """Replaces the settings of a topic. Raises OpsError."""
    resource = ConfigResource(ConfigResourceType.TOPIC, name, settings)
    for response in await admin.alter_configs([resource]):
        for code, message, *_ in response.resources:
            if code:
                raise cannot_run(f"the settings of {name} can't be changed: {for_code(code).__name__} {message}")


class Sending:
    """Appends records to one partition, with a limit of records in flight. Call `finish` at the end."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._in_flight: list[Any] = []

    async def send(self, **record: Any) -> None:
        """Appends one record: the arguments of aiokafka's `send`."""
        self._in_flight.append(await self._producer.send(self._topic, partition=self._partition, **record))
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            await self.finish()

    async def send_filler(self) -> None:
        """Appends an empty record in place of one that retention has deleted."""
        await self.send(value=b"", timestamp_ms=0)

    async def finish(self) -> None:
        """Waits until the broker has acknowledged every record."""
        await asyncio.gather(*self._in_flight)
        self._in_flight.clear()
