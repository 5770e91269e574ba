"""The check that records which another owner wrote repeat decisions of this state."""

from __future__ import annotations

from hashlib import sha256
from typing import Generic, TypeVar

from eventlog.core.errors import Poisoned
from eventlog.core.partition_state import PartitionState, Record

S = TypeVar("S")


class DuplicateCheck(Generic[S]):
    """Compares consecutive foreign records of a decision log with the decisions of a state.

    An aggregate keeps only the digest of its last decision. Older decisions are compared along their chain: a decision
    names the digest of the one before it, so neighbouring versions among the records, and the state's own last version,
    must agree.
    """

    def __init__(self, state: PartitionState[S]) -> None:
        self._state = state
        #: (digest, digest of the decision before) by key and version.
        self._seen: dict[tuple[str, int], tuple[bytes, bytes]] = {}
        #: SHA-256 of the last duplicate.
        self.digest = b""
        #: The cause of the last decoded decision.
        self.cause = -1

    def is_duplicate(self, record: Record) -> bool:
        """Whether the next record repeats a decision of the state. False if the state has not made that decision yet.

        Raises Poisoned if the record is no decision, or differs from the state's decision of that version. A record
        whose skip is recorded counts as a duplicate.
        """
        try:
            return self._compare(record)
        except Poisoned:
            if not self._state.is_skipped(record):
                raise
            self.digest = sha256(record.value or b"").digest()
            return True

    def _compare(self, record: Record) -> bool:
        state = self._state
        place = state.log, state.partition, record.offset, record.value
        if record.key is None or record.value is None:
            raise Poisoned.for_record(*place, "it has no key or no value")
        try:
            key = record.key.decode()
            decision = state.domain.decode_decision(record.value)
        except Exception as error:
            raise Poisoned.for_record(*place, repr(error)) from error
        if state.is_foreign(key):
            raise Poisoned.for_record(*place, "its key belongs to another partition")
        aggregate = state.states.get(key)
        version = decision.version
        self.cause = decision.cause
        if version < 1:
            raise Poisoned.for_record(*place, f"decision of {key} has version {version}")
        if aggregate is None or version > aggregate.version:
            return False
        self.digest = digest = sha256(record.value).digest()
        previous = bytes(decision.previous_sha256)
        unknown = (b"", b"")
        known = self._seen.setdefault((key, version), (digest, previous))[0]
        before = self._seen.get((key, version - 1), unknown)[0]
        named = self._seen.get((key, version + 1), unknown)[1]
        ours = aggregate.digest if version == aggregate.version else b""
        if (
            known != digest
            or (before or previous) != previous
            or any(one not in (b"", digest) for one in (named, ours))
        ):
            reason = f"two different decisions of {key} version {version}, the second at {record.offset}"
            raise Poisoned.for_record(*place, reason)
        return True
