"""Faults are drawn at the configured rates, and the same calls get the same faults. Method: many draws alone."""

from __future__ import annotations

from statistics import median

import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.fault_injection import MAX_KEYS, FaultInjector, InjectedFault

N = 4000


def faults_of(behaviour: pb.Behaviour, *, effect: bool = True, seed: int = 1) -> list[InjectedFault]:
    faults = FaultInjector(behaviour, seed)
    return [faults.draw(f"k{n}", n, effect=effect) for n in range(N)]


@pytest.mark.parametrize(
    ("rate", "field"),
    [
        ("fail_before_per_mille", "fail_before"),
        ("fail_after_per_mille", "fail_after"),
        ("timeout_before_per_mille", "hang_before"),
        ("timeout_after_per_mille", "hang_after"),
        ("limited_per_mille", "limited"),
    ],
)
def test_a_rate_applies_to_its_fault_alone(rate: str, field: str) -> None:
    behaviour = pb.Behaviour()
    setattr(behaviour, rate, 300)
    drawn = faults_of(behaviour)
    names = ("fail_before", "fail_after", "hang_before", "hang_after", "limited")
    counts = {name: sum(getattr(fault, name) for fault in drawn) for name in names}
    assert 0.27 * N < counts.pop(field) < 0.33 * N
    assert not any(counts.values())


def test_a_call_gets_a_time_out_or_a_failure_and_not_both() -> None:
    drawn = faults_of(
        pb.Behaviour(timeout_before_per_mille=500, fail_before_per_mille=500, timeout_after_per_mille=1000)
    )
    assert all(fault.hang_before != fault.fail_before for fault in drawn)
    assert all(fault.hang_after for fault in drawn)


def test_a_look_up_has_no_fault_after_its_effect() -> None:
    behaviour = pb.Behaviour(fail_after_per_mille=1000, timeout_after_per_mille=500)
    assert not any(fault.fail_after or fault.hang_after for fault in faults_of(behaviour, effect=False))


def test_a_seed_draws_the_same_faults_in_any_order_of_calls() -> None:
    behaviour = pb.Behaviour(fail_before_per_mille=300, latency_max_ms=100, seed=7)
    one, other = FaultInjector(behaviour, 1), FaultInjector(behaviour, 2)
    keys = [f"k{n}" for n in range(100)] * 2
    drawn: dict[str, list[InjectedFault]] = {}
    for key in keys:
        drawn.setdefault(key, []).append(one.draw(key, 0))
    for key in sorted(set(keys)):
        assert [other.draw(key, 0), other.draw(key, 0)] == drawn[key]
    assert any(first != second for first, second in drawn.values()), "a retry may get another fault"
    assert faults_of(behaviour) != faults_of(pb.Behaviour(fail_before_per_mille=300, latency_max_ms=100, seed=8))


def test_uniform_latency_fills_its_bounds() -> None:
    drawn = [
        fault.before_ms + fault.after_ms for fault in faults_of(pb.Behaviour(latency_min_ms=10, latency_max_ms=110))
    ]
    assert 10 <= min(drawn) < 15
    assert 105 < max(drawn) <= 110
    assert median(drawn) == pytest.approx(60, abs=5)


def test_a_lognormal_latency_has_its_median_and_a_long_tail_within_the_bounds() -> None:
    behaviour = pb.Behaviour(
        latency=pb.LATENCY_LOGNORMAL, latency_median_ms=50, latency_sigma_per_mille=1000, latency_max_ms=2000
    )
    drawn = sorted(fault.before_ms + fault.after_ms for fault in faults_of(behaviour))
    assert median(drawn) == pytest.approx(50, rel=0.1)
    # The 99th of a lognormal with sigma 1 is 10.2 times its median.
    assert drawn[int(N * 0.99)] == pytest.approx(512, rel=0.35)
    assert drawn[-1] <= 2000


def test_calls_above_the_rate_limit_of_a_second_are_rejected() -> None:
    faults = FaultInjector(pb.Behaviour(most_calls_per_s=3), 1)
    limited = [faults.draw(f"k{n}", at_ms).limited for n, at_ms in enumerate([0, 1, 2, 3, 999, 1000, 1001, 1002, 1003])]
    assert limited == [False] * 3 + [True] * 2 + [False] * 3 + [True]


def test_notifications_are_duplicated_late_and_shuffled_as_configured() -> None:
    faults = FaultInjector(pb.Behaviour(notify_twice_per_mille=200, notify_late_per_mille=100, notify_late_ms=5000), 1)
    delays = [faults.notice_delays_ms(f"n{n}") for n in range(N)]
    assert 0.17 * N < sum(len(one) == 2 for one in delays) < 0.23 * N
    assert 0.08 * N < sum(one[0] == 5000 for one in delays) < 0.12 * N
    faults.configure(pb.Behaviour(notify_shuffle_ms=100))
    shuffled = [faults.notice_delays_ms(f"n{n}")[0] for n in range(100)]
    assert shuffled != sorted(shuffled)


def test_the_number_of_counted_keys_is_bounded() -> None:
    faults = FaultInjector(pb.Behaviour(fail_before_per_mille=1), 1)
    for n in range(MAX_KEYS + 10):
        faults.draw(f"k{n}", 0)
    assert len(faults._sends) <= MAX_KEYS
