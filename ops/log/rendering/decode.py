"""Decodes a record of any topic: one line for people, JSON for programs.

A record that can't be decoded is shown with its size, so one bad record does not stop a command.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from eventlog.records.topic_spec import TopicSpec
from ops.log.rendering.describe import day_and_clock, event_line, fact_line, one_line
from ops.log.rendering.tokens import without_tokens
from ops.terminal.printing import printable, printable_bytes

#: Inbox fields with the bytes of another topic's record.
COPIES: dict[str, type[Message]] = {
    "order_fact": OrderFact,
    "payment_decision": PaymentDecision,
    "group_decision": GroupDecision,
}


def decode(spec: TopicSpec, record: Any) -> Message | None:
    """The record's message; None for a topic of raw bytes, and if the record can't be decoded."""
    if spec.message is None or record.value is None:
        return None
    try:
        return spec.message.FromString(record.value)
    except DecodeError:
        return None


def words(message: Message | None, value: bytes | None) -> str:
    """The content of a record, on one line."""
    if message is None:
        return f"{len(value or b'')} bytes that can't be decoded"
    if isinstance(message, OrderFact):
        return fact_line(message)
    if isinstance(message, GroupDecision | PaymentDecision):
        return f"version {message.version}: " + "; ".join(event_line(event) for event in message.events)
    if isinstance(message, GroupInput | PaymentInput):
        body = message.WhichOneof("body")
        if body in COPIES:
            return f"{body}: {words(_copy(body, getattr(message, body)), getattr(message, body))}"
        return f"{body} {one_line(getattr(message, body))}" if body else "an input of unknown type"
    return one_line(message)


def line(spec: TopicSpec, record: Any) -> str:
    """`2026-01-01 12:00:00.000Z 3:17 <key> …`: time, partition and offset, key, content."""
    key = printable_bytes(record.key)
    content = words(decode(spec, record), record.value)
    return printable(f"{day_and_clock(record.timestamp)} {record.partition}:{record.offset} {key}  {content}")


def as_object(spec: TopicSpec, record: Any, message: Message | None = None) -> dict[str, Any]:
    """The record's place, its headers, and its content by field names: of `message`, else of the record."""
    message = message or decode(spec, record)
    return {
        **place_of(record, record.topic),
        "headers": {name: (value or b"").decode(errors="replace") for name, value in record.headers},
        "value": (record.value or b"").hex() if message is None else fields(message),
    }


def place_of(record: Any, topic: str) -> dict[str, Any]:
    """A record's topic, partition, offset, time and key."""
    return {
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": (record.key or b"").decode(errors="replace"),
    }


def fields(message: Message) -> dict[str, Any]:
    """A message by its field names, without tokens. Copies of other topics' records are decoded too."""
    found: dict[str, Any] = MessageToDict(without_tokens(message), preserving_proto_field_name=True)
    for name, kind in COPIES.items():
        if name in found and name in message.DESCRIPTOR.fields_by_name:
            copied = _copy(name, getattr(message, name))
            if copied is not None and isinstance(copied, kind):
                found[name] = fields(copied)
    return found


def _copy(name: str, value: bytes) -> Message | None:
    try:
        return COPIES[name].FromString(value)
    except DecodeError:
        return None
