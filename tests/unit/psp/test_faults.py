"""Faults befall calls as they are told to, and the same calls meet the same faults. Method: many draws alone."""

from __future__ import annotations

from statistics import median

import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.faults import MAX_KEYS, Faults, InjectedFault

N = 4000


def fates(behaviour: pb.Behaviour, *, effect: bool = True, seed: int = 1) -> list[InjectedFault]:
    faults = Faults(behaviour, seed)
    return [faults.draw(f"k{n}", n, effect=effect) for n in range(N)]


@pytest.mark.parametrize(
    ("share", "field"),
    [
        ("fail_before_per_mille", "fail_before"),
        ("fail_after_per_mille", "fail_after"),
        ("timeout_before_per_mille", "hang_before"),
        ("timeout_after_per_mille", "hang_after"),
        ("limited_per_mille", "limited"),
    ],
)
def test_a_share_befalls_so_many_calls_and_no_other_fault(share: str, field: str) -> None:
    behaviour = pb.Behaviour()
    setattr(behaviour, share, 300)
    drawn = fates(behaviour)
    names = ("fail_before", "fail_after", "hang_before", "hang_after", "limited")
    counts = {name: sum(getattr(fate, name) for fate in drawn) for name in names}
    assert 0.27 * N < counts.pop(field) < 0.33 * N
    assert not any(counts.values())


def test_time_outs_and_failures_share_out_the_calls_and_never_befall_one_twice() -> None:
    drawn = fates(pb.Behaviour(timeout_before_per_mille=500, fail_before_per_mille=500, timeout_after_per_mille=1000))
    assert all(fate.hang_before != fate.fail_before for fate in drawn)
    assert all(fate.hang_after for fate in drawn)


def test_a_look_up_does_not_fail_after_an_effect_that_it_has_not() -> None:
    behaviour = pb.Behaviour(fail_after_per_mille=1000, timeout_after_per_mille=500)
    assert not any(fate.fail_after or fate.hang_after for fate in fates(behaviour, effect=False))


def test_the_same_seed_draws_the_same_whatever_the_order_of_the_calls() -> None:
    behaviour = pb.Behaviour(fail_before_per_mille=300, latency_max_ms=100, seed=7)
    one, other = Faults(behaviour, 1), Faults(behaviour, 2)
    keys = [f"k{n}" for n in range(100)] * 2
    drawn: dict[str, list[InjectedFault]] = {}
    for key in keys:
        drawn.setdefault(key, []).append(one.draw(key, 0))
    for key in sorted(set(keys)):
        assert [other.draw(key, 0), other.draw(key, 0)] == drawn[key]
    assert any(first != second for first, second in drawn.values()), "a repeat may fare better"
    assert fates(behaviour) != fates(pb.Behaviour(fail_before_per_mille=300, latency_max_ms=100, seed=8))


def test_latency_is_even_between_its_bounds() -> None:
    drawn = [fate.before_ms + fate.after_ms for fate in fates(pb.Behaviour(latency_min_ms=10, latency_max_ms=110))]
    assert 10 <= min(drawn) < 15
    assert 105 < max(drawn) <= 110
    assert median(drawn) == pytest.approx(60, abs=5)


def test_a_lognormal_latency_has_its_median_and_a_long_tail_within_the_bounds() -> None:
    behaviour = pb.Behaviour(
        latency=pb.LATENCY_LOGNORMAL, latency_median_ms=50, latency_sigma_per_mille=1000, latency_max_ms=2000
    )
    drawn = sorted(fate.before_ms + fate.after_ms for fate in fates(behaviour))
    assert median(drawn) == pytest.approx(50, rel=0.1)
    # The 99th of a lognormal with sigma 1 is 10.2 times its median.
    assert drawn[int(N * 0.99)] == pytest.approx(512, rel=0.35)
    assert drawn[-1] <= 2000


def test_more_calls_a_second_than_allowed_are_too_many() -> None:
    faults = Faults(pb.Behaviour(most_calls_per_s=3), 1)
    limited = [faults.draw(f"k{n}", at_ms).limited for n, at_ms in enumerate([0, 1, 2, 3, 999, 1000, 1001, 1002, 1003])]
    assert limited == [False] * 3 + [True] * 2 + [False] * 3 + [True]


def test_notifications_come_twice_late_and_shuffled_as_told() -> None:
    faults = Faults(pb.Behaviour(notify_twice_per_mille=200, notify_late_per_mille=100, notify_late_ms=5000), 1)
    delays = [faults.notice_delays_ms(f"n{n}") for n in range(N)]
    assert 0.17 * N < sum(len(one) == 2 for one in delays) < 0.23 * N
    assert 0.08 * N < sum(one[0] == 5000 for one in delays) < 0.12 * N
    faults.behave(pb.Behaviour(notify_shuffle_ms=100))
    shuffled = [faults.notice_delays_ms(f"n{n}")[0] for n in range(100)]
    assert shuffled != sorted(shuffled)


def test_what_is_counted_of_keys_stays_bounded() -> None:
    faults = Faults(pb.Behaviour(fail_before_per_mille=1), 1)
    for n in range(MAX_KEYS + 10):
        faults.draw(f"k{n}", 0)
    assert len(faults._sends) <= MAX_KEYS
