"""The codec of a state, for state directories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from eventlog.records.packed import Packed

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Codec(Generic[S]):
    """Encodes and decodes a state. The stamp identifies the encoding; states under another stamp are folded again.

    `decode` creates a state and nothing else, whatever the bytes are: a state directory is data, not code.
    """

    stamp: str
    encode: Callable[[S], bytes]
    decode: Callable[[bytes], S]

    @classmethod
    def of(cls, stamp: str, kind: type[S]) -> Codec[S]:
        """The codec of a type that msgspec supports, such as a dataclass or a Struct."""
        packed: Packed[S] = Packed(kind)
        return cls(stamp, packed.encode, packed.decode)
