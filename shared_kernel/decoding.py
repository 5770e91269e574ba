"""Decodes messages of another service about a group."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from eventlog.records.dead_letters import Undecodable

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
