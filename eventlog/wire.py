"""Just enough of the protobuf wire format to wrap bytes into a message without decoding them: fields concatenate."""

from __future__ import annotations

_LENGTH_DELIMITED = 2
_VARINT = 0
#: Numbers of 14 bits as whole varints, and as the first two bytes of longer ones: most are one look and no arithmetic.
_SHORT = [bytes((n,)) if n < 128 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(1 << 14)]
_BEGUN = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14)]


def varint(value: int) -> bytes:
    """Base-128 varint of a number that is not negative."""
    if value < 1 << 14:
        return _SHORT[value]
    return _BEGUN[value & 0x3FFF] + varint(value >> 14)


def tag(field: int, wire_type: int = _LENGTH_DELIMITED) -> bytes:
    """Tag of a field."""
    return varint(field << 3 | wire_type)


class BytesField:
    """A length-delimited field of a message: bytes, a string or a message."""

    __slots__ = ("_tag",)

    def __init__(self, field: int) -> None:
        self._tag = tag(field)

    def of(self, payload: bytes) -> bytes:
        """The whole field."""
        return self._tag + varint(len(payload)) + payload


class OriginField:
    """A field of a message (1: topic, 2: partition, 3: offset) that says where a record stands, as bytes.

    Byte for byte what a serialised protobuf message gives, at a fifth of the time: only the offset changes.
    """

    __slots__ = ("_heads", "_tag")

    def __init__(self, field: int) -> None:
        self._tag = tag(field)
        #: All that comes before the offset, by topic, partition and the offset's length in bytes.
        self._heads: dict[tuple[str, int, int], bytes] = {}

    def of(self, topic: str, partition: int, offset: int) -> bytes:
        """The whole field."""
        last = varint(offset) if offset else b""
        head = self._heads.get((topic, partition, len(last)))
        if head is None:
            head = self._heads[topic, partition, len(last)] = self._head(topic, partition, len(last))
        return head + last

    def _head(self, topic: str, partition: int, length: int) -> bytes:
        fixed = BytesField(1).of(topic.encode())
        if partition:
            fixed += tag(2, _VARINT) + varint(partition)
        if length:
            fixed += tag(3, _VARINT)
        return self._tag + varint(len(fixed) + length) + fixed
