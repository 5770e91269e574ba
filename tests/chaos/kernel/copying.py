"""A sequencer, effects and a projection over the two topics of a site, each with the least that a domain can be.

What they write names the record that it came from, so that a repeat can be told from something new. They pass the steps
that are a decider's own where the kernel leaves them to a domain or to the producer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from aiokafka import AIOKafkaProducer

from eventlog.processors.base import Connection, Processor
from eventlog.processors.effects import Effect, EffectResult, Effects
from eventlog.processors.projection import Index, Projection
from eventlog.processors.sequencer import RecordMapper, Sequencer
from eventlog.records.dead_letters import Undecodable
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime import failpoints

#: Names, in the environment, what a worker is; it is a decider if nothing does.
KIND = "CHAOS_WORKER"
DECIDER = "decider"


def spoilt(record: Any) -> bool:
    """Whether nobody can decode it."""
    return bool(record.offset % 5 == 2)


def copied(record: Any) -> bytes:
    """What is made of a record."""
    return b"%d:%b" % (record.offset, record.value)


def _decoded(record: Any) -> Any:
    if failpoints.armed:
        failpoints.passed("record decided, batch not")
    if spoilt(record):
        raise Undecodable("planted")
    return record


class Copying(RecordMapper):
    """Of the sequencer."""

    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        return self

    def map_record(self, record: Any) -> bytes:
        return copied(_decoded(record))


class Calling:
    """Of the effects: a call for each record, in a lane for each key."""

    def effects_of(self, record: Any) -> Iterable[Effect[Any]]:
        return [Effect(record.key.decode(), record)]

    async def perform(self, key: str, call: Any) -> EffectResult:
        if failpoints.armed:
            failpoints.passed("record decided, batch not")
        return EffectResult(copied(call), [])


class Folding:
    """Of the projection: the offsets of what could be decoded."""

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


def made(kind: str, source: TopicSpec, sink: TopicSpec, connection: Connection) -> Processor:
    """A processor that reads `source`. A projection writes dead letters alone."""
    group = source.readers[0]
    if kind == "sequencer":
        return Sequencer(group, [source], sink, Copying(), connection)
    if kind == "effects":
        return Effects(group, source, sink, Calling(), connection)
    if kind == "projection":
        return Projection(group, [source], source.writer, Folding(), connection)
    raise ValueError(f"{KIND} names no worker: {kind!r}")


def pass_steps_when_sending() -> None:
    """The steps before and after output is handed to the producer; for a process of its own."""
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
