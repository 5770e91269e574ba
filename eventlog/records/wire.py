"""Just enough of the protobuf wire format to wrap bytes into a message without decoding them: fields concatenate."""

from __future__ import annotations

_LENGTH_DELIMITED = 2
_VARINT = 0
#: Bytes of a number of 63 bits.
_LONGEST = 9
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
    """A field of a message (1: topic, 2: partition, 3: offset) that says where a record of a partition stands.

    Byte for byte what a serialised protobuf message gives, at a fifth of the time: only the offset changes.
    """

    __slots__ = ("_heads",)

    def __init__(self, field: int, topic: str, partition: int) -> None:
        fixed = BytesField(1).of(topic.encode())
        if partition:
            fixed += tag(2, _VARINT) + varint(partition)
        #: All that comes before the offset, by the offset's length in bytes; the first of a log is left out.
        self._heads = [tag(field) + varint(len(fixed)) + fixed]
        fixed += tag(3, _VARINT)
        self._heads += [tag(field) + varint(len(fixed) + length) + fixed for length in range(1, _LONGEST + 1)]

    def of(self, offset: int) -> bytes:
        """The whole field."""
        if not offset:
            return self._heads[0]
        last = varint(offset)
        return self._heads[len(last)] + last
