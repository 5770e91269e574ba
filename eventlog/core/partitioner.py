"""The partition of a key, computed as Kafka's default partitioner does: murmur2 over the key's UTF-8 bytes."""

from __future__ import annotations

import struct
from functools import lru_cache

_WORD = struct.Struct("<I")


# Hashing in Python costs more than most of the work around it, and one call asks several times about one key.
@lru_cache(maxsize=32_768)
def partition_of(key: str, partitions: int) -> int:
    """The partition of `key` in a topic with `partitions` partitions."""
    return (_murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """The hash of aiokafka.partitioner.murmur2, which works byte by byte and takes three times as long."""
    value = 0x9747B28C ^ len(data)
    for (word,) in _WORD.iter_unpack(data[: len(data) & ~3]):
        mixed = word * 0x5BD1E995 & 0xFFFFFFFF
        value = (value * 0x5BD1E995 ^ (mixed ^ mixed >> 24) * 0x5BD1E995) & 0xFFFFFFFF
    if rest := data[len(data) & ~3 :]:
        value = (value ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return value ^ value >> 15
