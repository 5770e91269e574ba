"""Timers nudge until the due time changes, with growing pauses, and never lose an aggregate."""

from __future__ import annotations

from eventlog.states import FOR_EVER_MS
from eventlog.timers import FIRST_PAUSE_MS, LONGEST_PAUSE_MS, BrokerClock, Timers


def test_nothing_is_nudged_before_it_is_due() -> None:
    timers = Timers(FOR_EVER_MS)
    timers.set("a", 100)
    assert timers.pop_due(99, 10) == []
    assert timers.pop_due(100, 10) == [("a", 100)]


def test_a_nudge_is_repeated_with_growing_pauses() -> None:
    timers = Timers(FOR_EVER_MS)
    timers.set("a", 0)
    now, pauses = 0, []
    for _ in range(12):
        assert timers.pop_due(now, 10) == [("a", 0)]
        upcoming = timers.earliest()
        assert upcoming is not None
        pauses.append(upcoming - now)
        now = upcoming
    assert pauses[0] == FIRST_PAUSE_MS
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_MS


def test_a_changed_due_time_replaces_the_old_one_and_an_unchanged_one_keeps_its_pauses() -> None:
    timers = Timers(FOR_EVER_MS)
    timers.set("a", 100)
    timers.pop_due(100, 1)
    timers.set("a", 100)
    assert timers.earliest() == 100 + FIRST_PAUSE_MS
    timers.set("a", 500)
    assert timers.earliest() == 500
    timers.set("a", None)
    assert timers.earliest() is None
    assert len(timers) == 0


def test_what_falls_due_beyond_the_horizon_is_left_to_its_keeper() -> None:
    timers = Timers(200)
    timers.set("a", 100)
    timers.set("a", 300)
    assert timers.earliest() is None
    timers.horizon_ms = 400
    timers.add("a", 300)
    timers.add("a", 250)
    assert timers.earliest() == 300


def test_at_most_so_many_are_popped_and_the_earliest_first() -> None:
    timers = Timers(FOR_EVER_MS)
    for n in range(10):
        timers.set(f"k{n}", 100 - n)
    assert [due for _, due in timers.pop_due(1_000, 3)] == [91, 92, 93]


def test_the_clock_follows_the_broker_backwards_too() -> None:
    clock = BrokerClock()
    assert clock.now(0) is None
    clock.seen(1_000, 10)
    clock.seen(500, 20)
    assert clock.now(20) == 1_010
    clock.acknowledged(400, 30)
    clock.seen(9_000, 31)
    assert clock.now(35) == 405
    assert clock.age(35) == 5
