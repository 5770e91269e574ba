"""Deciding and applying: each input is decided once, by the log's time, and decisions form a chain of digests."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from eventlog.core.aggregate import Aggregate, apply, decide
from eventlog.core.errors import InvariantViolation
from tests.unit.eventlog.counting import Counter, Counting, add

domain = Counting()


def fresh() -> Aggregate[Counter]:
    return Aggregate("k", domain.initial("k"))


def test_a_decision_has_version_cause_time_and_the_digest_of_the_previous_decision() -> None:
    aggregate = fresh()
    first = decide(domain, aggregate, add(3, "a"), 7, 5_000)
    second = decide(domain, aggregate, add(4, "b"), 9, 5_100)
    assert first is not None
    assert second is not None
    assert json.loads(first)[:5] == ["k", 1, 7, 5_000, ""]
    assert json.loads(second)[:5] == ["k", 2, 9, 5_100, sha256(first).hexdigest()]


def test_an_input_at_or_before_the_cause_returns_no_decision() -> None:
    aggregate = fresh()
    decide(domain, aggregate, add(3, "a"), 7, 5_000)
    assert decide(domain, aggregate, add(3, "z"), 7, 5_000) is None
    assert decide(domain, aggregate, add(3, "z"), 6, 5_000) is None
    assert aggregate.state.total == 3


def test_an_input_without_an_event_changes_nothing() -> None:
    aggregate = fresh()
    decide(domain, aggregate, add(3, "a"), 7, 5_000)
    assert decide(domain, aggregate, add(3, "a"), 8, 5_001) is None
    assert (aggregate.version, aggregate.cause, aggregate.time_ms) == (1, 7, 5_000)


def test_the_time_of_decisions_does_not_decrease() -> None:
    aggregate = fresh()
    decide(domain, aggregate, add(1, "a"), 1, 5_000)
    decide(domain, aggregate, add(1, "b"), 2, 4_000)
    assert aggregate.time_ms == 5_000


def test_due_events_come_before_the_input() -> None:
    aggregate = fresh()
    decide(domain, aggregate, add(1, "a"), 1, 5_000)
    late = decide(domain, aggregate, add(1, "b"), 2, 6_000)
    assert late is not None
    assert json.loads(late)[5] == [{"lapsed": 6_000}]


def test_an_event_sees_the_effect_of_the_previous_event() -> None:
    aggregate = fresh()
    decision = decide(domain, aggregate, add(10, "a"), 1, 5_000)
    assert decision is not None
    assert json.loads(decision)[5] == [{"added": 10, "id": "a"}, {"full": 10}]


def test_an_error_in_decide_becomes_a_faulted_decision_after_the_applied_events() -> None:
    aggregate = fresh()
    decision = decide(domain, aggregate, b'{"raise": true}', 1, 5_000)
    assert decision is not None
    assert json.loads(decision)[5][-1] == {"faulted": "RuntimeError", "total": 1}


class ReturnsTuple(Counting):
    """Returns a tuple of events instead of a generator, so an error comes before the first event."""

    def decide(self, state: Counter, command: dict[str, Any], at_ms: int) -> Any:
        if "raise" in command:
            raise RuntimeError("planted")
        return ({"added": command["add"], "id": command["id"]}, {"added": 0, "id": "too"})


class EvolveRaises(Counting):
    def evolve(self, state: Counter, event: dict[str, Any], at_ms: int) -> None:
        if event.get("added") != 1:
            raise LookupError("evolve")
        super().evolve(state, event, at_ms)


class EvolveRaisesWithTuple(EvolveRaises, ReturnsTuple):
    pass


class FaultedRaises(Counting):
    def faulted(self, state: Counter, command: dict[str, Any], error: str) -> Any:
        raise RuntimeError("planted in faulted")


class FaultedRaisesLater(Counting):
    def faulted(self, state: Counter, command: dict[str, Any], error: str) -> Any:
        yield {"faulted": error}
        raise RuntimeError("planted in faulted")


def test_decide_may_return_a_tuple() -> None:
    aggregate = fresh()
    decision = decide(ReturnsTuple(), aggregate, add(3, "a"), 1, 5_000)
    assert decision is not None
    assert json.loads(decision)[5] == [{"added": 3, "id": "a"}, {"added": 0, "id": "too"}]
    assert aggregate.state.total == 3


def test_an_error_before_the_first_event_becomes_a_faulted_decision() -> None:
    decision = decide(ReturnsTuple(), fresh(), b'{"raise": true}', 1, 5_000)
    assert decision is not None
    assert json.loads(decision)[5] == [{"faulted": "RuntimeError", "total": 0}]


@pytest.mark.parametrize("broken", [EvolveRaises(), EvolveRaisesWithTuple()])
def test_an_error_in_evolve_is_raised_without_a_decision(broken: Counting) -> None:
    aggregate = fresh()
    with pytest.raises(LookupError, match="evolve"):
        decide(broken, aggregate, add(3, "a"), 1, 5_000)
    assert aggregate.version == 0


def test_an_error_in_evolving_a_faulted_event_is_raised() -> None:
    with pytest.raises(LookupError, match="evolve"):
        decide(EvolveRaises(), fresh(), b'{"raise": true}', 1, 5_000)


@pytest.mark.parametrize("broken", [FaultedRaises(), FaultedRaisesLater()])
def test_an_error_in_faulted_violates_an_invariant(broken: Counting) -> None:
    with pytest.raises(InvariantViolation, match="`faulted` raised too"):
        decide(broken, fresh(), b'{"raise": true}', 1, 5_000)


def test_an_undecodable_input_violates_an_invariant() -> None:
    with pytest.raises(InvariantViolation, match="can't be processed"):
        decide(domain, fresh(), b"\xff", 1, 5_000)


def test_applying_the_log_gives_the_same_state() -> None:
    live = fresh()
    log = [decide(domain, live, add(n, str(n)), n, 5_000 + n) for n in range(1, 6)]
    replayed = fresh()
    for offset, value in enumerate(log):
        assert value is None or apply(domain, replayed, value, offset)
    assert replayed == live


def test_a_duplicate_is_ignored_and_a_different_decision_of_the_version_violates_an_invariant() -> None:
    live = fresh()
    first = decide(domain, live, add(1, "a"), 1, 5_000)
    other = decide(domain, fresh(), add(2, "a"), 1, 5_000)
    assert first is not None
    assert other is not None
    assert apply(domain, live, first, 4) is False
    with pytest.raises(InvariantViolation, match="two different decisions of k version 1"):
        apply(domain, live, other, 5)


def test_a_version_gap_and_a_broken_chain_violate_an_invariant() -> None:
    live = fresh()
    decide(domain, live, add(1, "a"), 1, 5_000)
    second = decide(domain, live, add(1, "b"), 2, 5_000)
    assert second is not None
    with pytest.raises(InvariantViolation, match="jumps from version 0 to 2"):
        apply(domain, fresh(), second, 3)
    other = fresh()
    decide(domain, other, add(9, "x"), 1, 5_000)
    with pytest.raises(InvariantViolation, match="chain of k is broken"):
        apply(domain, other, second, 3)
