"""Buckets of keys that anybody can choose."""

from __future__ import annotations

from chassis.admission.rate_limit import BucketsByKey, RateLimit

RARE = RateLimit(calls_per_second=0.001, burst=1)


def test_each_key_has_a_bucket_of_its_own() -> None:
    buckets = BucketsByKey(2)
    assert buckets.take("a", RARE) == 0
    assert buckets.take("a", RARE) > 0
    assert buckets.take("b", RARE) == 0


def test_the_key_that_was_used_longest_ago_is_dropped() -> None:
    buckets = BucketsByKey(2)
    for key in ("a", "b", "a", "c"):
        buckets.take(key, RARE)
    assert buckets.take("a", RARE) > 0
    assert buckets.take("c", RARE) > 0
    assert buckets.take("b", RARE) == 0
