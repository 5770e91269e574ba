"""Decodes messages of another service about a group, and maps its decisions to inbox records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import DecodeError, Message

from eventlog.consuming.resume import Source
from eventlog.core.aggregate import DecisionMessage
from eventlog.core.inbox_mapper import RecordMapper
from eventlog.records.dead_letters import Undecodable
from eventlog.records.wire import BytesField, SourceField

M = TypeVar("M", bound=Message)


def decode_for_group(message: type[M], value: bytes, key: bytes | None) -> M:
    """Decodes a message that names its group. Raises Undecodable for other bytes, and if the key is another group's."""
    try:
        decoded: Any = message.FromString(value)
    except DecodeError as error:
        raise Undecodable(f"not a {message.DESCRIPTOR.name}: {error}") from error
    if key is None or decoded.group.encode() != key:
        raise Undecodable(f"a {message.DESCRIPTOR.name} of group {decoded.group!r} under the key {key!r}")
    found: M = decoded
    return found


def source_of(message: type[Message], value: bytes) -> Source | None:
    """The record that an inbox record is a copy of, by its field `source`; None if it is no copy. See TracesCopies."""
    try:
        found: Any = message.FromString(value)
    except DecodeError:
        return None
    source = found.source
    return Source(source.topic, source.partition, source.offset) if found.HasField("source") else None


class DecisionMapper(RecordMapper, Generic[M]):
    """Copies the decisions of another service that concern this one, byte for byte, in one batch of a partition."""

    from_decision_log = True

    def __init__(
        self,
        message: type[M],
        concerns: Callable[[M], bool],
        source: SourceField,
        decision: BytesField,
        stamp: bytes = b"",
    ) -> None:
        """`source` and `decision` are fields of the inbox record; `stamp` has further fields, encoded."""
        self._message = message
        self._concerns = concerns
        self._source = source
        self._decision = decision
        self._stamp = stamp

    def decode(self, value: bytes, /) -> DecisionMessage:
        """See RecordMapper."""
        found: DecisionMessage = cast(Any, self._message).FromString(value)
        return found

    def map_record(self, record: Any) -> bytes | None:
        """The inbox record of a decision, or None if it does not concern this service. Raises Undecodable."""
        value = record.value or b""
        decision: Any = decode_for_group(self._message, value, record.key)
        self.decision = decision
        if not self._concerns(decision):
            return None
        return self._source.of(record.offset) + self._decision.of(value) + self._stamp
