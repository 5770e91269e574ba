"""An aggregate and its two operations: decide an input, and apply a decision from the log.

Pure: no I/O and no clock. The processors and the simulator run this same code. A record that no decider can have
written raises Poisoned. An error in the domain's `decide` becomes a decision of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeVar

from eventlog.core.errors import Poisoned, Spoiled

S = TypeVar("S")

#: The end of the year 9999, in milliseconds since the epoch. No decider can have made a decision after it.
LATEST_MS = 253_402_300_799_999


class DecisionMessage(Protocol):
    """The fields of a decision that the kernel reads."""

    @property
    def version(self) -> int: ...  # noqa: D102 - documented in the message's definition
    @property
    def cause(self) -> int: ...  # noqa: D102
    @property
    def time_ms(self) -> int: ...  # noqa: D102
    @property
    def previous_sha256(self) -> bytes: ...  # noqa: D102
    @property
    def events(self) -> Any: ...  # noqa: D102


class Domain(Protocol[S]):
    """The rules of a kind of aggregate. A domain holds no state, reads no clock and uses no random numbers."""

    def initial(self, key: str) -> S:
        """The state of an aggregate before its first event."""
        ...

    def decode_input(self, value: bytes) -> Any:
        """Decodes the value of an input record. Raises if it can't be decoded or if its body is unknown."""
        ...

    def decide(self, state: S, command: Any, at_ms: int) -> Iterable[Any]:
        """Returns the events of an input. Does not change `state`: the caller applies each event before the next.

        Return a generator if an event depends on the effect of an earlier one. Otherwise a tuple is faster.
        """
        ...

    def evolve(self, state: S, event: Any, at_ms: int) -> None:
        """Applies one event in place. Succeeds for every event that any version of `decide` has returned."""
        ...

    def faulted(self, state: S, command: Any, error: str) -> Iterable[Any]:
        """Returns the events of a command on which `decide` raised. `error` is the name of the exception's type."""
        ...

    def due(self, state: S) -> int | None:
        """The time from which a tick has an effect, in milliseconds since the epoch, or None if it never has."""
        ...

    def tick(self, due_ms: int) -> bytes:
        """The value of an input record that makes the decider act on what is due."""
        ...

    def encode_decision(  # noqa: D102 - the fields are those of DecisionMessage
        self, key: str, version: int, cause: int, time_ms: int, previous_sha256: bytes, events: list[Any]
    ) -> bytes: ...

    def decode_decision(self, value: bytes) -> DecisionMessage:
        """Decodes the value of a decision record. Raises if it can't be decoded or if an event is unknown."""
        ...


@dataclass(slots=True)
class Aggregate(Generic[S]):
    """The state of one key and its place in the log."""

    key: str
    state: S
    #: Version of the last decision; 0 before the first.
    version: int = 0
    #: Inbox offset of the input that caused the last decision; -1 before the first.
    cause: int = -1
    #: Time of the last decision, in milliseconds since the epoch.
    time_ms: int = 0
    #: SHA-256 of the last decision's bytes; empty before the first.
    digest: bytes = b""
    #: Due time of its entry in the timer index on disk, or None if it has none. Used by RocksDBStore only.
    indexed_ms: int | None = field(default=None, compare=False, repr=False)


def decide(
    domain: Domain[S],
    aggregate: Aggregate[S],
    value: bytes,
    offset: int,
    timestamp_ms: int,
    on_fault: Callable[[], None] | None = None,
) -> bytes | None:
    """Decides one input record and evolves the aggregate. Returns the decision's bytes, or None if there is no event.

    An input at or before the aggregate's cause was decided before, and yields no event. Raises Poisoned without a topic
    and a partition, which the caller adds, if the input can't be decoded. Calls `on_fault` if the rules raised.
    """
    if offset <= aggregate.cause:
        return None
    try:
        command = domain.decode_input(value)
    except Exception as error:
        raise Poisoned.for_record("", -1, offset, value, repr(error)) from error
    at_ms = timestamp_ms if timestamp_ms > aggregate.time_ms else aggregate.time_ms
    state = aggregate.state
    events: list[Any] = []
    failed = _run(domain, state, at_ms, events, domain.decide, command, at_ms)
    if failed is not None:
        # The state includes every event applied before the error.
        again = _run(domain, state, at_ms, events, domain.faulted, command, type(failed).__name__)
        if again is not None:
            raise Spoiled.for_record("", -1, offset, value, f"`faulted` raised too: {again!r}") from failed
        if on_fault is not None:
            on_fault()
    if not events:
        return None
    encoded = domain.encode_decision(aggregate.key, aggregate.version + 1, offset, at_ms, aggregate.digest, events)
    aggregate.version += 1
    aggregate.cause = offset
    aggregate.time_ms = at_ms
    aggregate.digest = sha256(encoded).digest()
    return encoded


def _run(
    domain: Domain[S],
    state: S,
    at_ms: int,
    events: list[Any],
    rule: Callable[[S, Any, Any], Iterable[Any]],
    command: Any,
    given: Any,
) -> Exception | None:
    """Calls `decide` or `faulted`, whose last argument is `given`, and applies each event as soon as it is returned.

    Returns an exception of the rule. Raises an exception of `evolve`.
    """
    evolve = domain.evolve
    defect: Exception | None = None
    try:
        for event in rule(state, command, given):
            try:
                evolve(state, event, at_ms)
            except Exception as error:
                # A defect of `evolve` is no fault of the rule and must not become a decision.
                defect = error
                raise
            events.append(event)
    except Exception as error:
        if error is defect:
            raise
        return error
    return None


def apply(domain: Domain[S], aggregate: Aggregate[S], value: bytes, offset: int) -> bool:
    """Applies a decision from the log. Returns False for a duplicate, which changes nothing.

    Raises Poisoned for a gap between versions, for two different decisions of one version, for a broken chain of
    digests, and for a cause or a time that runs backwards or lies beyond LATEST_MS. Raises Spoiled if `evolve` fails.
    The caller adds topic and partition.
    """
    try:
        decision = domain.decode_decision(value)
    except Exception as error:
        raise Poisoned.for_record("", -1, offset, value, f"decision of {aggregate.key}: {error!r}") from error
    version = decision.version
    if version <= aggregate.version:
        if version < 1:
            raise Poisoned.for_record("", -1, offset, value, f"decision of {aggregate.key} has version {version}")
        if version == aggregate.version and sha256(value).digest() != aggregate.digest:
            reason = f"two different decisions of {aggregate.key} version {version}, the second at {offset}"
            raise Poisoned.for_record("", -1, offset, value, reason)
        return False
    at_ms = decision.time_ms
    cause = decision.cause
    if version != aggregate.version + 1:
        reason = f"{aggregate.key} jumps from version {aggregate.version} to {version}"
        raise Poisoned.for_record("", -1, offset, value, reason)
    if decision.previous_sha256 != aggregate.digest:
        raise Poisoned.for_record("", -1, offset, value, f"the chain of {aggregate.key} is broken at version {version}")
    if cause <= aggregate.cause or not aggregate.time_ms <= at_ms <= LATEST_MS:
        found = f"version {version} of {aggregate.key} has cause {cause} and time {at_ms} ms"
        reason = f"{found}, after cause {aggregate.cause} and time {aggregate.time_ms} ms"
        raise Poisoned.for_record("", -1, offset, value, reason)
    evolve = domain.evolve
    try:
        for event in decision.events:
            evolve(aggregate.state, event, at_ms)
    except Exception as error:
        raise Spoiled.for_record("", -1, offset, value, f"version {version} of {aggregate.key}: {error!r}") from error
    aggregate.version = version
    aggregate.cause = decision.cause
    aggregate.time_ms = at_ms
    aggregate.digest = sha256(value).digest()
    return True
