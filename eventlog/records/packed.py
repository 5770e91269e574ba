"""Values of one type as msgpack, for state directories: decoding makes that type and nothing else, whatever the bytes.

msgpack has no integers beyond 64 bits, but sums of absurd amounts in a log may need them. A value with one is kept in a
wider form, which is slower and begins with a byte that no msgpack has.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

_ENCODER = msgspec.msgpack.Encoder()
#: Reserved in msgpack, so no other value begins with it.
_WIDE = b"\xc1"
_LEAST, _MOST = -(2**63), 2**63 - 1


class Packed(Generic[T]):
    """Encodes and decodes values of one type. Subclasses of Struct and dataclasses may be anywhere in it."""

    def __init__(self, kind: Any) -> None:
        """`kind` is the type T, or its alias."""
        self._kind = kind
        self._decode = msgspec.msgpack.Decoder(kind).decode

    @staticmethod
    def encode(value: T) -> bytes:
        """Bytes of a value."""
        try:
            return _ENCODER.encode(value)
        except OverflowError:
            return _WIDE + _ENCODER.encode(_widened(msgspec.to_builtins(value, builtin_types=(bytes,))))

    def decode(self, value: bytes) -> T:
        """The value that was encoded. Raises msgspec.DecodeError for anything else."""
        if value[:1] == _WIDE:
            # Not strict: a text is taken for a number where the type says so.
            wide: T = msgspec.convert(msgspec.msgpack.decode(value[1:]), self._kind, strict=False)
            return wide
        found: T = self._decode(value)
        return found


def _widened(value: Any) -> Any:
    """Plain values, with texts in place of integers beyond 64 bits."""
    if type(value) is int:
        return value if _LEAST <= value <= _MOST else str(value)
    if isinstance(value, list | tuple):
        return [_widened(one) for one in value]
    return {name: _widened(one) for name, one in value.items()} if isinstance(value, dict) else value
