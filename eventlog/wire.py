"""Just enough of the protobuf wire format to wrap bytes into a message without decoding them: fields concatenate."""

from __future__ import annotations

_LENGTH_DELIMITED = 2


def varint(value: int) -> bytes:
    """Base-128 varint of a number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(field: int, wire_type: int = _LENGTH_DELIMITED) -> bytes:
    """Tag of a field."""
    return varint(field << 3 | wire_type)


def bytes_field(field: int, payload: bytes) -> bytes:
    """A length-delimited field: bytes, a string or a message."""
    return tag(field) + varint(len(payload)) + payload
