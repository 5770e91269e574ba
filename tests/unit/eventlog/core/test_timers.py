"""Timers nudge until the due time changes, with growing pauses, and never lose an aggregate."""

from __future__ import annotations

from eventlog.core.state_store import FOR_EVER_MS
from eventlog.core.timers import (
    FIRST_PAUSE_MS,
    FRESH_IF_IDLE_MS,
    FRESH_MS,
    MAX_PAUSE_MS,
    NEAR_MS,
    BrokerClock,
    Timers,
)


def test_nothing_is_nudged_before_it_is_due() -> None:
    timers = Timers(FOR_EVER_MS)
    timers.schedule("a", 100)
    assert timers.pop_due(99, 10) == []
    assert timers.pop_due(100, 10) == [("a", 100)]


def test_a_nudge_is_repeated_with_growing_pauses() -> None:
    timers = Timers(FOR_EVER_MS)
    timers.schedule("a", 0)
    now, pauses = 0, []
    for _ in range(12):
        assert timers.pop_due(now, 10) == [("a", 0)]
        upcoming = timers.next_fire_ms()
        assert upcoming is not None
        pauses.append(upcoming - now)
        now = upcoming
    assert pauses[0] == FIRST_PAUSE_MS
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_PAUSE_MS


def test_a_changed_due_time_replaces_the_old_one_and_an_unchanged_one_keeps_its_pauses() -> None:
    timers = Timers(FOR_EVER_MS)
    timers.schedule("a", 100)
    timers.pop_due(100, 1)
    timers.schedule("a", 100)
    assert timers.next_fire_ms() == 100 + FIRST_PAUSE_MS
    timers.schedule("a", 500)
    assert timers.next_fire_ms() == 500
    timers.schedule("a", None)
    assert timers.next_fire_ms() is None
    assert len(timers) == 0


def test_what_falls_due_beyond_the_horizon_is_left_to_its_keeper() -> None:
    timers = Timers(200)
    timers.schedule("a", 100)
    timers.schedule("a", 300)
    assert timers.next_fire_ms() is None
    timers.loaded_until_ms = 400
    timers.load("a", 300)
    timers.load("a", 250)
    assert timers.next_fire_ms() == 300


def test_at_most_so_many_are_popped_and_the_earliest_first() -> None:
    timers = Timers(FOR_EVER_MS)
    for n in range(10):
        timers.schedule(f"k{n}", 100 - n)
    assert [due for _, due in timers.pop_due(1_000, 3)] == [91, 92, 93]


def test_the_clock_follows_the_broker_backwards_too() -> None:
    clock = BrokerClock()
    assert clock.now(0) is None
    clock.on_read(1_000, 10)
    clock.on_read(500, 20)
    assert clock.now(20) == 1_010
    clock.on_acknowledged(400, 30)
    clock.on_read(9_000, 31)
    assert clock.now(35) == 405


def test_the_broker_is_asked_for_its_time_where_it_is_not_known_well_enough() -> None:
    clock = BrokerClock()
    assert clock.is_stale(10**12, 0)
    clock.on_read(1_000, 0)
    # A lower bound: a record may be days old.
    assert clock.is_stale(10**12, 0)
    clock.on_acknowledged(1_000, 0)
    assert not clock.is_stale(0, FRESH_MS)
    assert not clock.is_stale(10**12, FRESH_IF_IDLE_MS)
    assert clock.is_stale(1_000 + FRESH_MS + 1 + NEAR_MS, FRESH_MS + 1)
    # The broker's clock may have been set ahead meanwhile, and ours may have been set back.
    assert clock.is_stale(10**12, FRESH_IF_IDLE_MS + 1)
    assert clock.is_stale(10**12, -1)


def test_what_is_out_of_date_takes_no_memory() -> None:
    timers = Timers(FOR_EVER_MS)
    for n in range(100_000):
        timers.schedule("a", 1_000_000 - n)
    assert timers.next_fire_ms() == 1_000_000 - 99_999
    assert len(timers._heap) < 1_000


def test_too_many_timers_are_left_to_their_store_from_the_end() -> None:
    timers = Timers(FOR_EVER_MS)
    for n in range(10_000):
        timers.schedule(f"k{n}", 7 * n % 10_000)
    timers.evict_later_half()
    assert 4_000 < len(timers) < 6_000
    assert timers.loaded_until_ms == max(due for due, _, _ in timers._due.values())
    assert [due for _, due in timers.pop_due(5, 10)] == [0, 1, 2, 3, 4, 5]
    # What falls due at one time is not torn apart.
    same = Timers(FOR_EVER_MS)
    for n in range(100):
        same.schedule(f"k{n}", 5)
    same.evict_later_half()
    assert (len(same), same.loaded_until_ms) == (100, 5)
