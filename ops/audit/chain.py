"""The chain of decisions of one group or one purse: versions, digests, causes and times.

Knows nothing of what was decided. Every record of a decision log goes through here first; only what is new goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Protocol

from ops.audit.findings import Invariant

_DIGEST_BYTES = 32

#: (invariant, what): what a chain calls when something is wrong with it.
Complain = Callable[[Invariant, str], None]


class Sealed(Protocol):
    """What all decisions have in common."""

    version: int
    cause: int
    time_ms: int
    previous_sha256: bytes


class Chain:
    """Decisions of one key, as far as read."""

    __slots__ = ("_digests", "cause", "first_version", "time_ms", "version")

    def __init__(self) -> None:
        self.version = 0
        self.cause = -1
        self.time_ms = 0
        #: Greater than 1 where the log had been trimmed before the first decision that was read.
        self.first_version = 1
        self._digests = bytearray()

    @property
    def trimmed(self) -> bool:
        """Whether its beginning is no longer in the log."""
        return self.first_version > 1

    def take(self, value: bytes, decision: Sealed, log_trimmed: bool, complain: Complain) -> bool:
        """Takes the next record. Returns False for a repeat of a known version, which must not be folded again."""
        digest = sha256(value).digest()
        version = decision.version
        if self.first_version <= version <= self.version:
            if self._digest(version) != digest:
                complain(Invariant.VERSIONS, f"two different decisions of version {version}")
            return False
        if version < self.first_version:
            complain(Invariant.VERSIONS, f"version {version} after version {self.version}")
            return False
        if version != self.version + 1:
            self._skip_to(version, log_trimmed, complain)
        elif self.version and decision.previous_sha256 != self._digest(self.version):
            complain(Invariant.CHAIN, f"version {version} does not carry the digest of version {self.version}")
        elif not self.version and decision.previous_sha256:
            complain(Invariant.CHAIN, "version 1 names a decision before it")
        if decision.cause <= self.cause:
            complain(
                Invariant.VERSIONS,
                f"version {version} is caused by input {decision.cause}, the one before by {self.cause}",
            )
        if decision.time_ms < self.time_ms:
            complain(Invariant.VERSIONS, f"version {version} is dated {self.time_ms - decision.time_ms} ms too early")
        self.version = version
        self.cause = max(self.cause, decision.cause)
        self.time_ms = max(self.time_ms, decision.time_ms)
        self._digests += digest
        return True

    def _digest(self, version: int) -> bytes:
        at = (version - self.first_version) * _DIGEST_BYTES
        return bytes(self._digests[at : at + _DIGEST_BYTES])

    def _skip_to(self, version: int, log_trimmed: bool, complain: Complain) -> None:
        if self.version == 0 and log_trimmed:
            self.first_version = version
            return
        complain(Invariant.VERSIONS, f"version {self.version + 1} is missing before version {version}")
        if self.version == 0:
            self.first_version = version
        else:
            # Later versions keep their places; a record that fills the gap afterwards differs from these zeros.
            self._digests += bytes(_DIGEST_BYTES * (version - self.version - 1))
