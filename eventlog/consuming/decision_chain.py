"""Verifies the chains of decisions in a log, for readers without its state: sequencers and effects.

Each decision carries its version and the digest of the decision before it. The last decision of each key is remembered
for one epoch. Before the first batch of an epoch, READ_BACK records are read back, so a restarted process checks what
the one before it did. The first decision of a key that is not remembered is trusted: deciders, the ledger and
projections check all of them. It may be a late duplicate from a process that was frozen, so a later version of the same
key is not a gap: gaps are detected only in keys that are known from their first version on.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP

from eventlog.broker.security import Kafka, client
from eventlog.core.aggregate import LATEST_MS, DecisionMessage

#: Records that are read back at the start of an epoch.
READ_BACK = 2_000
#: Keys of one partition in one generation of the cache.
MAX_REMEMBERED = 16_384


class BrokenChain(ValueError):
    """A decision is not the next one of its key."""


class _Last(NamedTuple):
    """The last decision of a key."""

    version: int
    digest: bytes
    #: Whether all versions before it were seen.
    complete: bool


_UNKNOWN = _Last(0, b"", False)


class Chain:
    """The chains of one partition in one epoch. A batch of an older epoch that is still handled uses the older one."""

    def __init__(self, known: dict[bytes, _Last]) -> None:
        #: The decision that `follows` checked last.
        self._next = _UNKNOWN
        #: By key, in two generations. When the young one is full, the old one is dropped.
        self._young = known
        self._old: dict[bytes, _Last] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def follows(self, record: Any, decision: DecisionMessage) -> bool:
        """Whether a decision is the next one of its key, to be passed to `remember`; False for a duplicate.

        Raises BrokenChain.
        """
        key, version, time_ms = record.key, decision.version, decision.time_ms
        last = self._young.get(key) or self._old.get(key)
        if version < 1 or not 0 <= time_ms <= LATEST_MS or decision.cause < 0:
            raise BrokenChain(f"{key!r}: version {version} was caused by input {decision.cause} at {time_ms} ms")
        digest = sha256(record.value).digest()
        complete = version == 1
        if last is not None:
            if version <= last.version:
                if version == last.version and digest != last.digest:
                    raise BrokenChain(f"two different decisions of {key!r} version {version}")
                return False
            if version != last.version + 1:
                if last.complete:
                    raise BrokenChain(f"{key!r} jumps from version {last.version} to {version}")
            elif decision.previous_sha256 != last.digest:
                raise BrokenChain(f"the chain of {key!r} is broken at version {version}")
            complete = last.complete
        self._next = _Last(version, digest, complete)
        return True

    def remember(self, record: Any) -> None:
        """Remembers the decision that `follows` checked last."""
        if len(self._young) >= MAX_REMEMBERED:
            self._old, self._young = self._young, {}
        self._young[record.key] = self._next


class Chains:
    """The chains of all partitions of one processor."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._chains: dict[TP, tuple[int, Chain]] = {}

    async def begin(self, epoch: int, tp: TP, first: int, decode: Callable[[bytes], DecisionMessage]) -> Chain:
        """The chains to check a batch with. Before the first batch of an epoch, reads back the log before `first`."""
        begun, chain = self._chains.get(tp, (-1, None))
        if chain is not None and begun == epoch:
            return chain
        known: dict[bytes, _Last] = {}
        for record in await _read_before(self._kafka, tp, first):
            try:
                decision = decode(record.value)
                last = known.get(record.key, _UNKNOWN)
                if record.key is not None and decision.version >= last.version:
                    digest = sha256(record.value).digest()
                    known[record.key] = _Last(decision.version, digest, last.complete or decision.version == 1)
            except Exception:  # noqa: BLE001 - a skipped record, or one that stops another reader
                continue
        chain = Chain(known)
        self._chains[tp] = epoch, chain
        return chain


async def _read_before(kafka: Kafka, tp: TP, first: int) -> list[Any]:
    """The last READ_BACK records before an offset."""
    place = TopicPartition(tp.topic, tp.partition)
    found: list[Any] = []
    if first <= 0:
        return found
    consumer = AIOKafkaConsumer(**client(kafka), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
        consumer.assign([place])
        begin = (await consumer.beginning_offsets([place]))[place]
        at = max(begin, first - READ_BACK)
        consumer.seek(place, at)
        while at < first:
            records = (await consumer.getmany(place, timeout_ms=1_000)).get(place, [])
            found += [one for one in records if one.offset < first]
            at = await consumer.position(place)
    finally:
        await consumer.stop()
    return found
