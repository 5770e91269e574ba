"""When a provider is left alone and asked again. Method: the state machine alone, time and chance by hand."""

from __future__ import annotations

import pytest

from services.payments.providers.circuit_breaker import Breaker, Rules, State

RULES = Rules(failures=3, patience_s=2.0, first_pause_s=1.0, longest_pause_s=4.0, jitter=0.5, probe_s=30.0)


def breaker(chance: float = 0.0) -> Breaker:
    return Breaker("p", RULES, lambda: chance)


def state(one: Breaker) -> State:
    return one.state


def opened(chance: float = 0.0) -> Breaker:
    made = breaker(chance)
    for at_s in (0.0, 1.0, 2.0):
        assert made.allows(at_s)
        made.failed(at_s)
    assert state(made) is State.OPEN
    return made


def test_a_run_of_failures_opens_it_only_when_it_is_long_in_number_and_in_time() -> None:
    quick = breaker()
    for _ in range(1000):
        quick.failed(0.0)
    assert state(quick) is State.CLOSED, "calls that ran into one time-out together are no outage"
    quick.failed(1.9)
    assert state(quick) is State.CLOSED
    quick.failed(2.0)
    assert state(quick) is State.OPEN
    few = breaker()
    few.failed(0.0)
    few.failed(100.0)
    assert state(few) is State.CLOSED


def test_no_share_of_failures_opens_it_while_others_succeed() -> None:
    one = breaker()
    for at_s in range(1000):
        for _ in range(50):
            one.failed(float(at_s))
        one.succeeded()
    assert state(one) is State.CLOSED


def test_while_open_nothing_is_asked_and_then_one_call_tries() -> None:
    one = opened()
    assert not one.allows(2.9)
    assert one.allows(3.0)
    assert state(one) is State.HALF_OPEN
    assert not one.allows(3.0)
    one.succeeded()
    assert state(one) is State.CLOSED
    assert one.allows(3.1)


def test_each_failed_try_doubles_the_pause_up_to_the_longest() -> None:
    one, at_s = opened(), 2.0
    for pause_s in (1.0, 2.0, 4.0, 4.0, 4.0):
        assert not one.allows(at_s + pause_s - 0.01)
        at_s += pause_s
        assert one.allows(at_s)
        one.failed(at_s)
    one.allows(at_s + 4)
    one.succeeded()
    for later_s in (100.0, 101.0, 102.0):
        one.failed(later_s)
    assert one.allows(103.0), "a success takes the doubling back"


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, 1.0), (0.5, 0.75), (0.999, 0.5005)])
def test_a_pause_is_shortened_by_chance_so_that_processes_dont_try_in_step(chance: float, pause_s: float) -> None:
    one = opened(chance)
    assert not one.allows(2.0 + pause_s - 0.001)
    assert one.allows(2.0 + pause_s + 0.001)


def test_what_waits_is_told_to_wait_until_the_pause_is_over_and_not_all_as_long() -> None:
    assert opened().wait_s(2.25) == pytest.approx(0.75)
    late, early = opened(0.9), opened(0.1)
    assert late.wait_s(2.0) > early.wait_s(2.0) - 0.5
    trying = opened()
    trying.allows(3.0)
    assert trying.wait_s(3.0) == pytest.approx(RULES.first_pause_s)


def test_late_answers_from_before_it_opened_prove_nothing() -> None:
    one = opened()
    one.succeeded()
    one.failed(2.5)
    assert state(one) is State.OPEN
    assert one.allows(3.0)


def test_a_try_that_is_lost_is_tried_again() -> None:
    one = opened()
    assert one.allows(3.0)
    assert not one.allows(32.9)
    assert one.allows(33.0)
