"""A sequencer, effects and a projection over the two topics of a site, each with a minimal domain.

Each output names the record that it came from, so a duplicate can be told from new output. The domains pass the
failpoints that in a decider are in the kernel, and so does the producer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from aiokafka import AIOKafkaProducer

from eventlog.core.effect_handler import Effect, EffectResult
from eventlog.core.inbox_mapper import RecordMapper
from eventlog.processors.base import Connection, Processor
from eventlog.processors.effects import Effects
from eventlog.processors.projection import Index, Projection
from eventlog.processors.sequencer import Sequencer
from eventlog.records.dead_letters import Undecodable
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime import failpoints

#: Environment variable with the kind of a worker; the default is a decider.
KIND = "CHAOS_WORKER"
DECIDER = "decider"


def is_undecodable(record: Any) -> bool:
    """Whether the domains treat a record as undecodable."""
    return bool(record.offset % 5 == 2)


def copy_of(record: Any) -> bytes:
    """The output for a record."""
    return b"%d:%b" % (record.offset, record.value)


def _decoded(record: Any) -> Any:
    if failpoints.armed:
        failpoints.passed("record decided, batch not")
    if is_undecodable(record):
        raise Undecodable("planted")
    return record


class CopyingMapper(RecordMapper):
    """The mapper of the sequencer."""

    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        return self

    def map_record(self, record: Any) -> bytes:
        return copy_of(_decoded(record))


class CopyingHandler:
    """The handler of the effects: one call for each record, one lane for each key."""

    def effects_of(self, record: Any) -> Iterable[Effect[Any]]:
        return [Effect(record.key.decode(), record)]

    async def perform(self, key: str, call: Any) -> EffectResult:
        if failpoints.armed:
            failpoints.passed("record decided, batch not")
        return EffectResult(copy_of(call), [])


class OffsetsFolding:
    """The fold of the projection: the offsets of the decodable records."""

    stamp = "offsets-1"

    def initial(self, key: str) -> list[int]:
        return []

    def is_decision_log(self, topic: str) -> bool:
        return False

    def fold(self, state: list[int], topic: str, record: Any, index: Index) -> None:
        state.append(_decoded(record).offset)

    def encode(self, state: list[int]) -> bytes:
        return json.dumps(state).encode()

    def decode(self, key: str, value: bytes) -> list[int]:
        found: list[int] = json.loads(value)
        return found


def make_processor(kind: str, source: TopicSpec, sink: TopicSpec, connection: Connection) -> Processor:
    """Makes a processor that reads `source` and writes to `sink`; a projection writes only dead letters."""
    group = source.readers[0]
    if kind == "sequencer":
        return Sequencer(group, [source], sink, CopyingMapper(), connection)
    if kind == "effects":
        return Effects(group, source, sink, CopyingHandler(), connection)
    if kind == "projection":
        return Projection(group, [source], source.writer, OffsetsFolding(), connection)
    raise ValueError(f"{KIND} names no worker: {kind!r}")


def add_producer_failpoints() -> None:
    """Makes the producer of this process pass the failpoints before and after it takes output."""
    for name in ("send", "send_batch"):
        setattr(AIOKafkaProducer, name, _passing(getattr(AIOKafkaProducer, name)))


def _passing(send: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(send)
    async def sending(*args: Any, **kwargs: Any) -> Any:
        if failpoints.armed:
            failpoints.passed("batch decided, nothing sent")
        sent = await send(*args, **kwargs)
        if failpoints.armed:
            failpoints.passed("output sent, not acknowledged")
        return sent

    return sending
