"""The chain of one group's decisions in one log: versions, digests, causes and times.

Every record of a decision log passes the chain first. Only new versions are folded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from typing import Any, Protocol

from msgspec import Struct, field

from ops.audit.findings import Invariant

_DIGEST_BYTES = 32

#: Called with (invariant, description) for each violation.
OnViolation = Callable[[Invariant, str], None]


class Sealed(Protocol):
    """The common fields of all decisions."""

    version: int
    cause: int
    time_ms: int
    previous_sha256: bytes


class Decision(Sealed, Protocol):
    """A decision with its events."""

    @property
    def events(self) -> Collection[Any]: ...  # noqa: D102


def _no_check(decision: Sealed, body: str | None) -> str:
    """The description of an event that no check knows."""
    return (
        f"version {decision.version} has an event of {f'type {body}' if body else 'unknown type'}, which no check knows"
    )


def apply_events(
    fold: Any,
    handlers: Mapping[str, Callable[[Any, Any], None]],
    decision: Sealed,
    events: Collection[Any],
    on_violation: OnViolation,
) -> None:
    """Calls the handler of each event of a decision with the fold and the event's message."""
    for event in events:
        body = event.WhichOneof("body")
        handler = handlers.get(body) if body is not None else None
        if handler is None or body is None:
            on_violation(Invariant.VERSIONS, _no_check(decision, body))
        else:
            handler(fold, getattr(event, body))
    if not events:
        on_violation(Invariant.VERSIONS, f"version {decision.version} has no event")


class Chain(Struct, array_like=True, gc=False):
    """The decisions of one key that were read so far."""

    version: int = 0
    cause: int = -1
    time_ms: int = 0
    #: Greater than 1 if the log was trimmed before the first decision that was read.
    first_version: int = 1
    #: The digests of all versions from the first on, less the dropped ones, one after the other.
    digests: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    @property
    def trimmed(self) -> bool:
        """Whether the log has lost its first decisions."""
        return self.first_version > 1

    def take(self, value: bytes, decision: Sealed, log_trimmed: bool, on_violation: OnViolation) -> bool:
        """Takes the next record. Returns False for a duplicate of a known version, which is not folded again."""
        digest = sha256(value).digest()
        version = decision.version
        if self.first_version <= version <= self.version:
            if self._digest(version) not in (digest, b""):
                on_violation(Invariant.VERSIONS, f"two different decisions of version {version}")
            return False
        if version < self.first_version:
            on_violation(Invariant.VERSIONS, f"version {version} after version {self.version}")
            return False
        if version != self.version + 1:
            self._skip_to(version, log_trimmed, on_violation)
        elif self.version and decision.previous_sha256 != self._digest(self.version):
            on_violation(Invariant.CHAIN, f"version {version} does not have the digest of version {self.version}")
        elif not self.version and decision.previous_sha256:
            on_violation(Invariant.CHAIN, "version 1 has the digest of a previous decision")
        if decision.cause <= self.cause:
            on_violation(
                Invariant.VERSIONS,
                f"version {version} is caused by input {decision.cause}, the one before by {self.cause}",
            )
        if decision.time_ms < self.time_ms:
            on_violation(
                Invariant.VERSIONS,
                f"version {version} is {self.time_ms - decision.time_ms} ms earlier than the version before",
            )
        self.version = version
        self.cause = max(self.cause, decision.cause)
        self.time_ms = max(self.time_ms, decision.time_ms)
        self.digests += digest
        return True

    def keep_last(self, count: int) -> None:
        """Drops the digests of all versions but the last `count`. Repeats of the others are not compared any more."""
        extra = len(self.digests) // _DIGEST_BYTES - count
        if extra > 0:
            del self.digests[: extra * _DIGEST_BYTES]
            self.dropped += extra

    def _digest(self, version: int) -> bytes:
        """The digest of a version; empty if it is dropped."""
        at = (version - self.first_version - self.dropped) * _DIGEST_BYTES
        return bytes(self.digests[at : at + _DIGEST_BYTES]) if at >= 0 else b""

    def _skip_to(self, version: int, log_trimmed: bool, on_violation: OnViolation) -> None:
        if self.version == 0 and log_trimmed:
            self.first_version = version
            return
        on_violation(Invariant.VERSIONS, f"version {self.version + 1} is missing before version {version}")
        if self.version == 0:
            self.first_version = version
        else:
            # Zeros keep the places of later versions. A record that fills the gap afterwards differs from them.
            self.digests += bytes(_DIGEST_BYTES * (version - self.version - 1))
