"""Decisions are observed once the log has them, by the process that decided them first."""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.core.partition_state import PartitionState
from eventlog.processors.observed_decisions import ObservedDecision, ObservedDecisions
from tests.unit.eventlog.counting import Counter, Counting, add, record


class Observer:
    def __init__(self, room: int = 100) -> None:
        self.left = room
        self.seen: list[str] = []
        self.left_out = 0

    def room(self) -> int:
        return self.left

    def take(self, decisions: Sequence[ObservedDecision], left_out: int) -> None:
        self.seen += [decision.value.decode() for decision in decisions]
        self.left_out += left_out


class Deciding:
    """A decider's use of its observed decisions."""

    def __init__(self, observer: Observer | None) -> None:
        self.observed = ObservedDecisions(observer)
        self.state: PartitionState[Counter] = PartitionState(Counting(), 3)
        self.state.next_input = 0

    def decide(self, *names: str) -> None:
        self.observed.begin_batch()
        for name in names:
            assert self.state.decide(record(self.state.next_input, add(1, name))) is not None
            self.state.next_input += 1
            if self.observed.room > 0:
                self.observed.keep(self.state, "k", name.encode(), None)

    def acknowledge(self, first: int, count: int) -> None:
        self.observed.acknowledged(self.state, first, count)
        self.state.on_acknowledged(first, count, b"")


def test_a_decision_is_observed_when_the_log_has_it_and_once() -> None:
    observer = Observer()
    deciding = Deciding(observer)
    deciding.decide("a", "b", "c")
    assert observer.seen == []
    deciding.acknowledge(0, 2)
    assert observer.seen == ["a", "b"]
    deciding.decide("d")
    deciding.acknowledge(2, 2)
    assert observer.seen == ["a", "b", "c", "d"]
    assert observer.left_out == 0


def test_decisions_without_room_are_counted() -> None:
    observer = Observer(room=2)
    deciding = Deciding(observer)
    deciding.decide("a", "b", "c", "d")
    observer.left = 0
    deciding.decide("e")
    observer.left = 1
    deciding.decide("f")
    deciding.acknowledge(0, 6)
    assert (observer.seen, observer.left_out) == (["a", "b", "f"], 3)


def test_decisions_behind_those_of_another_writer_are_not_observed() -> None:
    """They may be duplicates: the other owner has observed them."""
    observer = Observer()
    deciding = Deciding(observer)
    deciding.decide("a", "b")
    deciding.acknowledge(2, 2)
    assert (observer.seen, observer.left_out) == ([], 0)


def test_a_new_state_of_the_partition_begins_anew() -> None:
    observer = Observer()
    deciding = Deciding(observer)
    deciding.decide("a", "lost")
    deciding.acknowledge(0, 1)
    before = deciding.state
    deciding.state = PartitionState(Counting(), 3)
    deciding.state.next_input = 0
    deciding.decide("x")
    deciding.acknowledge(0, 1)
    assert observer.seen == ["a", "x"]
    # The acknowledgement of the former state's decision comes late.
    deciding.state = before
    deciding.acknowledge(5, 1)
    assert observer.seen == ["a", "x"]


def test_without_an_observer_nothing_is_kept() -> None:
    deciding = Deciding(None)
    deciding.decide("a")
    assert deciding.observed.room == 0
    deciding.acknowledge(0, 1)
