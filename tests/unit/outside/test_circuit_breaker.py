"""When the circuit breaker opens and closes. Method: the state machine alone, with time and chance as parameters."""

from __future__ import annotations

import pytest

from chassis.outside.circuit_breaker import BreakerPolicy, BreakerState, CircuitBreaker

POLICY = BreakerPolicy(
    failures=3, min_failing_s=2.0, first_pause_s=1.0, max_pause_s=4.0, jitter=0.5, trial_timeout_s=30.0
)


def breaker(chance: float = 0.0) -> CircuitBreaker:
    return CircuitBreaker("p", POLICY, lambda: chance)


def state(one: CircuitBreaker) -> BreakerState:
    return one.state


def opened(chance: float = 0.0) -> CircuitBreaker:
    made = breaker(chance)
    for at_s in (0.0, 1.0, 2.0):
        assert made.allows(at_s)
        made.record_failure(at_s)
    assert state(made) is BreakerState.OPEN
    return made


def test_a_run_of_failures_opens_it_only_if_long_in_number_and_in_time() -> None:
    quick = breaker()
    for _ in range(1000):
        quick.record_failure(0.0)
    assert state(quick) is BreakerState.CLOSED, "calls that ran into one time-out together are no outage"
    quick.record_failure(1.9)
    assert state(quick) is BreakerState.CLOSED
    quick.record_failure(2.0)
    assert state(quick) is BreakerState.OPEN
    few = breaker()
    few.record_failure(0.0)
    few.record_failure(100.0)
    assert state(few) is BreakerState.CLOSED


def test_no_failure_rate_opens_it_while_other_calls_succeed() -> None:
    one = breaker()
    for at_s in range(1000):
        for _ in range(50):
            one.record_failure(float(at_s))
        one.record_success()
    assert state(one) is BreakerState.CLOSED


def test_an_open_breaker_rejects_calls_and_then_allows_one_trial_call() -> None:
    one = opened()
    assert not one.allows(2.9)
    assert one.allows(3.0)
    assert state(one) is BreakerState.HALF_OPEN
    assert not one.allows(3.0)
    one.record_success()
    assert state(one) is BreakerState.CLOSED
    assert one.allows(3.1)


def test_each_failed_trial_doubles_the_pause_up_to_the_maximum() -> None:
    one, at_s = opened(), 2.0
    for pause_s in (1.0, 2.0, 4.0, 4.0, 4.0):
        assert not one.allows(at_s + pause_s - 0.01)
        at_s += pause_s
        assert one.allows(at_s)
        one.record_failure(at_s)
    one.allows(at_s + 4)
    one.record_success()
    for later_s in (100.0, 101.0, 102.0):
        one.record_failure(later_s)
    assert one.allows(103.0), "a success resets the doubling"


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, 1.0), (0.5, 0.75), (0.999, 0.5005)])
def test_jitter_shortens_a_pause_so_that_processes_do_not_try_in_step(chance: float, pause_s: float) -> None:
    one = opened(chance)
    assert not one.allows(2.0 + pause_s - 0.001)
    assert one.allows(2.0 + pause_s + 0.001)


def test_a_rejected_call_waits_for_the_end_of_the_pause_plus_jitter() -> None:
    assert opened().wait_s(2.25) == pytest.approx(0.75)
    late, early = opened(0.9), opened(0.1)
    assert late.wait_s(2.0) > early.wait_s(2.0) - 0.5
    half_open = opened()
    half_open.allows(3.0)
    assert half_open.wait_s(3.0) == pytest.approx(POLICY.first_pause_s)


def test_results_of_calls_from_before_it_opened_are_ignored() -> None:
    one = opened()
    one.record_success()
    one.record_failure(2.5)
    assert state(one) is BreakerState.OPEN
    assert one.allows(3.0)


def test_a_lost_trial_call_is_replaced() -> None:
    one = opened()
    assert one.allows(3.0)
    assert not one.allows(32.9)
    assert one.allows(33.0)
