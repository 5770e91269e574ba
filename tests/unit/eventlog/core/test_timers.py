"""A timer fires until its due time changes, with growing pauses. The clock follows the broker's."""

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


def test_a_timer_does_not_fire_before_it_is_due() -> None:
    timers = Timers(FOR_EVER_MS)
    timers.schedule("a", 100)
    assert timers.pop_due(99, 10) == []
    assert timers.pop_due(100, 10) == [("a", 100)]


def test_a_timer_fires_again_after_growing_pauses() -> None:
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


def test_a_new_due_time_replaces_the_old_one_and_an_unchanged_one_keeps_its_pauses() -> None:
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


def test_timers_due_after_the_loaded_window_stay_in_the_store() -> None:
    timers = Timers(200)
    timers.schedule("a", 100)
    timers.schedule("a", 300)
    assert timers.next_fire_ms() is None
    timers.loaded_until_ms = 400
    timers.load("a", 300)
    timers.load("a", 250)
    assert timers.next_fire_ms() == 300


def test_pop_due_returns_the_earliest_timers_up_to_the_limit() -> None:
    timers = Timers(FOR_EVER_MS)
    for n in range(10):
        timers.schedule(f"k{n}", 100 - n)
    assert [due for _, due in timers.pop_due(1_000, 3)] == [91, 92, 93]


def test_an_acknowledgement_may_set_the_clock_back() -> None:
    clock = BrokerClock()
    assert clock.now(0) is None
    clock.on_read(1_000, 10)
    clock.on_read(500, 20)
    assert clock.now(20) == 1_010
    clock.on_acknowledged(400, 30)
    clock.on_read(9_000, 31)
    assert clock.now(35) == 405


def test_the_clock_is_stale_without_a_recent_acknowledgement() -> None:
    clock = BrokerClock()
    assert clock.is_stale(10**12, 0)
    clock.on_read(1_000, 0)
    # Only a lower bound: the record may be days old.
    assert clock.is_stale(10**12, 0)
    clock.on_acknowledged(1_000, 0)
    assert not clock.is_stale(0, FRESH_MS)
    assert not clock.is_stale(10**12, FRESH_IF_IDLE_MS)
    assert clock.is_stale(1_000 + FRESH_MS + 1 + NEAR_MS, FRESH_MS + 1)
    # The broker's clock may have been set ahead meanwhile, and the monotonic time may be inconsistent.
    assert clock.is_stale(10**12, FRESH_IF_IDLE_MS + 1)
    assert clock.is_stale(10**12, -1)


def test_stale_heap_entries_are_removed() -> None:
    timers = Timers(FOR_EVER_MS)
    for n in range(100_000):
        timers.schedule("a", 1_000_000 - n)
    assert timers.next_fire_ms() == 1_000_000 - 99_999
    assert len(timers._heap) < 1_000


def test_the_later_half_of_the_timers_is_evicted() -> None:
    timers = Timers(FOR_EVER_MS)
    for n in range(10_000):
        timers.schedule(f"k{n}", 7 * n % 10_000)
    timers.evict_later_half()
    assert 4_000 < len(timers) < 6_000
    assert timers.loaded_until_ms == max(due for due, _, _ in timers._due.values())
    assert [due for _, due in timers.pop_due(5, 10)] == [0, 1, 2, 3, 4, 5]
    # Timers due at the same time stay together.
    same = Timers(FOR_EVER_MS)
    for n in range(100):
        same.schedule(f"k{n}", 5)
    same.evict_later_half()
    assert (len(same), same.loaded_until_ms) == (100, 5)


def test_a_lost_tick_is_repeated_within_minutes_though_the_brokers_clock_was_set_back_by_an_hour() -> None:
    hour_ms = 3_600_000
    timers = Timers(FOR_EVER_MS)
    timers.schedule("a", 1_000)
    timers.schedule("b", 10 * hour_ms)
    timers.set_now(5 * hour_ms)
    assert timers.pop_due(5 * hour_ms, 10) == [("a", 1_000)]
    timers.set_now(4 * hour_ms)
    assert timers.next_fire_ms() == 4 * hour_ms + FIRST_PAUSE_MS
    assert timers.pop_due(4 * hour_ms + FIRST_PAUSE_MS, 10) == [("a", 1_000)]
    # A timer that has not fired still waits for its time, and a small step back changes no pause.
    timers.set_now(4 * hour_ms - MAX_PAUSE_MS)
    assert timers.next_fire_ms() == 4 * hour_ms + 3 * FIRST_PAUSE_MS
    assert timers.pop_due(11 * hour_ms, 10) == [("a", 1_000), ("b", 10 * hour_ms)]
