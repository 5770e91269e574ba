"""Given / when / then for event-sourced aggregates: given inputs, when an input arrives, then these events.

Inputs and decisions pass as bytes through the kernel's `decide` and `apply`. After each step, an aggregate folded from
the log has to equal the one that decided. This package has builders and no rules; expectations are in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

from eventlog.core.aggregate import Aggregate, Domain, apply, decide

S = TypeVar("S")


class Encodable(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes: ...


class Scenario(Generic[S]):
    """One aggregate, its log, and the events of the last step."""

    #: False: only decide, without folding the log. The fold takes time in proportion to the aggregate's size.
    folds_log = True

    def __init__(
        self, domain: Domain[S], key: str, describe: Callable[[Any], str], *, start_ms: int, step_ms: int = 0
    ) -> None:
        self.domain: Any = domain
        self.decided = Aggregate(key, domain.initial(key))
        self.folded = Aggregate(key, domain.initial(key))
        self.start_ms = self.now_ms = start_ms
        #: Values of the inputs so far, with their times. The offset of an input is its index.
        self.inputs: list[tuple[bytes, int]] = []
        self.log: list[bytes] = []
        self.events: list[Any] = []
        self._describe = describe
        self._step_ms = step_ms

    @property
    def state(self) -> S:
        return self.decided.state

    @property
    def lines(self) -> list[str]:
        """The events of the last step as text."""
        return [self._describe(event) for event in self.events]

    @property
    def due_ms(self) -> int | None:
        """Time of the next timer, in milliseconds since the epoch."""
        due_ms: int | None = self.domain.due(self.state)
        return due_ms

    def given(self, *inputs: bytes | Encodable) -> Self:
        """Decides inputs, each in a step of its own."""
        for one in inputs:
            self.when(one)
        return self

    def when(self, *inputs: bytes | Encodable, at: int | None = None, after_ms: int | None = None) -> Self:
        """Decides inputs in one step, all at one time.

        The time is `at` milliseconds after the start, or `after_ms` (by default the scenario's step) after the last.
        """
        if at is not None:
            self.now_ms = self.start_ms + at
        else:
            self.now_ms += self._step_ms if after_ms is None else after_ms
        self.events = []
        for one in inputs:
            value = one if isinstance(one, bytes) else one.SerializeToString()
            decision = decide(self.domain, self.decided, value, len(self.inputs), self.now_ms)
            self.inputs.append((value, self.now_ms))
            if decision is not None:
                self.log.append(decision)
                self.events.extend(self.domain.decode_decision(decision).events)
                if self.folds_log:
                    assert apply(self.domain, self.folded, decision, len(self.log))
        if self.folds_log:
            assert self.folded == self.decided, "the fold of the log differs from the state that decided"
            self.check_state()
        return self

    def check_state(self) -> None:
        """More checks after each step, by a subclass."""

    def then(self, *expected: str) -> Self:
        """Asserts that the last step led to exactly these events, in order."""
        assert self.lines == list(expected)
        return self

    def then_nothing(self) -> Self:
        """Asserts that the last step led to no event."""
        return self.then()
