"""Values of one type as msgpack, for state directories. Decoding creates that type and nothing else from any bytes.

msgpack has no integers beyond 64 bits, which a sum of huge amounts in a log may need. A value with such an integer is
encoded in a wide form, which is slower and begins with a byte that msgpack never uses.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

_ENCODER = msgspec.msgpack.Encoder()
#: Reserved in msgpack, so no msgpack value begins with it.
_WIDE = b"\xc1"
_MIN, _MAX = -(2**63), 2**63 - 1


class Packed(Generic[T]):
    """Encodes and decodes values of one type, which may contain dataclasses and subclasses of Struct."""

    def __init__(self, kind: Any) -> None:
        """`kind` is the type T or an alias of it."""
        self._kind = kind
        self._decode = msgspec.msgpack.Decoder(kind).decode

    @staticmethod
    def encode(value: T) -> bytes:
        """Encodes a value."""
        try:
            return _ENCODER.encode(value)
        except OverflowError:
            return _WIDE + _ENCODER.encode(_widened(msgspec.to_builtins(value, builtin_types=(bytes,))))

    def decode(self, value: bytes) -> T:
        """Decodes a value. Raises msgspec.DecodeError if the bytes do not encode a value of the type."""
        if value[:1] == _WIDE:
            # Not strict, so that a text becomes an integer if the type requires one.
            wide: T = msgspec.convert(msgspec.msgpack.decode(value[1:]), self._kind, strict=False)
            return wide
        found: T = self._decode(value)
        return found


def _widened(value: Any) -> Any:
    """The value with texts in place of integers beyond 64 bits."""
    if type(value) is int:
        return value if _MIN <= value <= _MAX else str(value)
    if isinstance(value, list | tuple):
        return [_widened(one) for one in value]
    return {name: _widened(one) for name, one in value.items()} if isinstance(value, dict) else value
