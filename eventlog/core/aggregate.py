"""One aggregate and the two things that can be done to it: decide an input, apply a decision from the log.

Pure: no I/O, no clock. This is where exactness is kept, so both the processors and the simulator run this very code.
A record that can't be what a decider wrote raises Poisoned; an error of the domain's `decide` is a decision of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeVar

from eventlog.core.errors import Poisoned, Spoiled

S = TypeVar("S")

#: The end of the year 9999, in milliseconds since the epoch. A decision that says it was made later is absurd.
LATEST_MS = 253_402_300_799_999


class DecisionMessage(Protocol):
    """What the kernel reads of a decision, whatever its type."""

    @property
    def version(self) -> int: ...  # noqa: D102 - as in the decision's message
    @property
    def cause(self) -> int: ...  # noqa: D102
    @property
    def time_ms(self) -> int: ...  # noqa: D102
    @property
    def previous_sha256(self) -> bytes: ...  # noqa: D102
    @property
    def events(self) -> Any: ...  # noqa: D102


class Domain(Protocol[S]):
    """What a domain fills in. It has no state of its own, reads no clock and draws no random number."""

    def initial(self, key: str) -> S:
        """State of an aggregate that nothing has happened to."""
        ...

    def decode_input(self, value: bytes) -> Any:
        """An input record's value. Raises on what can't be decoded or has an unknown body."""
        ...

    def decide(self, state: S, command: Any, at_ms: int) -> Iterable[Any]:
        """Gives events, each applied to `state` before the next is asked for; never changes `state` itself.

        A generator, where one event depends on what another did; else a tuple of them will do, and takes less time.
        """
        ...

    def evolve(self, state: S, event: Any, at_ms: int) -> None:
        """Applies one event in place. Total over everything that `decide` ever yielded."""
        ...

    def faulted(self, state: S, command: Any, error: str) -> Iterable[Any]:
        """Events for when `decide` raised on a command; the same protocol as `decide`."""
        ...

    def due(self, state: S) -> int | None:
        """Time, in milliseconds since the epoch, from which a tick would change something; None: never."""
        ...

    def tick(self, due_ms: int) -> bytes:
        """Value of an input record that says: look at the time."""
        ...

    def encode_decision(  # noqa: D102 - the fields are those of DecisionMessage
        self, key: str, version: int, cause: int, time_ms: int, previous_sha256: bytes, events: list[Any]
    ) -> bytes: ...

    def decode_decision(self, value: bytes) -> DecisionMessage:
        """A decision record's value. Raises on what can't be decoded or holds an unknown event."""
        ...


@dataclass(slots=True)
class Aggregate(Generic[S]):
    """State of one key, and where it stands in the log."""

    key: str
    state: S
    #: Version of the last decision; 0: none yet.
    version: int = 0
    #: Offset of the input that caused it.
    cause: int = -1
    #: Its time, in milliseconds since the epoch.
    time_ms: int = 0
    #: SHA-256 of its bytes.
    digest: bytes = b""
    #: Due time of its entry in the index on disk; None: there is none. Its store's alone (rocks.py).
    indexed_ms: int | None = field(default=None, compare=False, repr=False)


def decide(domain: Domain[S], aggregate: Aggregate[S], value: bytes, offset: int, timestamp_ms: int) -> bytes | None:
    """Decides one input record and evolves the aggregate. Returns the decision's bytes, or None if nothing happened.

    An input at or before the aggregate's cause was decided before: nothing happens again. Raises Poisoned where the
    input can't be decoded; the caller knows its topic and partition.
    """
    if offset <= aggregate.cause:
        return None
    try:
        command = domain.decode_input(value)
    except Exception as error:
        raise Poisoned.by("", -1, offset, value, repr(error)) from error
    at_ms = timestamp_ms if timestamp_ms > aggregate.time_ms else aggregate.time_ms
    state = aggregate.state
    events: list[Any] = []
    failed = _run(domain, state, at_ms, events, domain.decide, command, at_ms)
    if failed is not None:
        # The state holds every event so far, so the fault is decided on what is true.
        again = _run(domain, state, at_ms, events, domain.faulted, command, type(failed).__name__)
        if again is not None:
            raise Spoiled.by("", -1, offset, value, f"the answer to a fault failed: {again!r}") from failed
    if not events:
        return None
    sealed = domain.encode_decision(aggregate.key, aggregate.version + 1, offset, at_ms, aggregate.digest, events)
    aggregate.version += 1
    aggregate.cause = offset
    aggregate.time_ms = at_ms
    aggregate.digest = sha256(sealed).digest()
    return sealed


def _run(
    domain: Domain[S],
    state: S,
    at_ms: int,
    events: list[Any],
    rule: Callable[[S, Any, Any], Iterable[Any]],
    command: Any,
    given: Any,
) -> Exception | None:
    """Draws the events of `decide` or `faulted`, whose last argument is `given`, and applies each at once.

    Returns the error of the rule itself; one of evolve is raised.
    """
    evolve = domain.evolve
    defect: Exception | None = None
    try:
        for event in rule(state, command, given):
            try:
                evolve(state, event, at_ms)
            except Exception as error:
                # A defect of the program, not a fault of the rule.
                defect = error
                raise
            events.append(event)
    except Exception as error:
        if error is defect:
            raise
        return error
    return None


def apply(domain: Domain[S], aggregate: Aggregate[S], value: bytes, offset: int) -> bool:
    """Applies a decision from the log. Returns False for a repeat, which changes nothing.

    Raises Poisoned at a gap, at two different decisions of one version, where the chain of digests is broken, and at
    absurd numbers; Spoiled where a decision that fits can't be applied. The caller knows the topic and the partition.
    """
    try:
        decision = domain.decode_decision(value)
    except Exception as error:
        raise Poisoned.by("", -1, offset, value, f"a decision of {aggregate.key}: {error!r}") from error
    version = decision.version
    if version <= aggregate.version:
        if version < 1:
            raise Poisoned.by("", -1, offset, value, f"{aggregate.key} has no version {version}")
        if version == aggregate.version and sha256(value).digest() != aggregate.digest:
            what = f"two different decisions of {aggregate.key} version {version}, the second at {offset}"
            raise Poisoned.by("", -1, offset, value, what)
        return False
    at_ms = decision.time_ms
    cause = decision.cause
    if version != aggregate.version + 1:
        what = f"{aggregate.key} jumps from version {aggregate.version} to {version}"
        raise Poisoned.by("", -1, offset, value, what)
    if decision.previous_sha256 != aggregate.digest:
        raise Poisoned.by("", -1, offset, value, f"the chain of {aggregate.key} is broken at version {version}")
    if cause <= aggregate.cause or not aggregate.time_ms <= at_ms <= LATEST_MS:
        what = f"version {version} of {aggregate.key} was caused by input {cause} at {at_ms} ms, after input "
        raise Poisoned.by("", -1, offset, value, f"{what}{aggregate.cause} at {aggregate.time_ms} ms")
    evolve = domain.evolve
    try:
        for event in decision.events:
            evolve(aggregate.state, event, at_ms)
    except Exception as error:
        raise Spoiled.by("", -1, offset, value, f"version {version} of {aggregate.key}: {error!r}") from error
    aggregate.version = version
    aggregate.cause = decision.cause
    aggregate.time_ms = at_ms
    aggregate.digest = sha256(value).digest()
    return True
