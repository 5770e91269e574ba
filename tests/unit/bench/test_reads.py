from __future__ import annotations

from typing import Any

import pytest
from groupbuy.payments.v1.decisions_pb2 import OPERATION_CAPTURE, OPERATION_VOID, ProviderCall

from bench.reads import __main__, history
from eventlog.core.partitioner import partition_of


def test_the_partitions_together_have_all_groups() -> None:
    of_each = [list(history.chunks(50, partition, 4)) for partition in range(history.PARTITIONS)]
    assert sorted(index for chunks in of_each for chunk in chunks for index in chunk) == list(range(50))
    assert all(0 < len(chunk) <= 4 for chunks in of_each for chunk in chunks)


def test_each_partition_has_a_sample() -> None:
    indexes = __main__.samples(100)
    assert [partition_of(history.group_of(index), history.PARTITIONS) for index in indexes] == [0, 1, 2, 3]


def test_each_seat_of_a_group_has_another_customer() -> None:
    assert len({history.customer(7, seat) for seat in range(history.SEATS)}) == history.SEATS


def test_the_provider_supports_the_calls_of_settled_orders_only() -> None:
    call = ProviderCall(order="o", operation=OPERATION_CAPTURE, attempt=1, amount_minor=5, hold="h", currency="CNY")
    assert history.respond(call).captured.amount_minor == 5
    with pytest.raises(ValueError, match="o:void:1"):
        history.respond(ProviderCall(order="o", operation=OPERATION_VOID, attempt=1))


def test_the_longest_gap_includes_both_ends() -> None:
    assert __main__.longest_gap([], 1.0, 4.0) == 3.0
    assert __main__.longest_gap([0.5, 2.0, 2.5, 9.0], 1.0, 4.0) == 1.5
    assert __main__.longest_gap([1.5, 3.5], 1.0, 4.0) == 2.0


def figures(recover_s: float = 1.0, takeover_s: float = 12.0, orders_mb: int = 210) -> dict[str, Any]:
    recover = {"orders": recover_s, "groups": 1.0, "payments": 1.0}
    rss = {"orders": orders_mb, "groups": 150, "payments": 150}
    return {"orders": 100, "recover_s": recover, "join_s": 1.0, "takeover_s": takeover_s, "rss_mb": rss}


@pytest.mark.parametrize(
    ("whole", "met"),
    [
        (figures(), [True, True, True, True]),
        (figures(recover_s=5.1), [False, True, True, True]),
        (figures(takeover_s=15.1), [True, False, True, True]),
        (figures(orders_mb=230), [True, True, True, False]),
        (figures(orders_mb=401), [True, True, False, False]),
    ],
)
def test_each_target_is_compared_with_the_worst_service(whole: dict[str, Any], met: list[bool]) -> None:
    found, evaluated = __main__.evaluate(whole, figures(orders_mb=200))
    assert evaluated == met
    assert {"orders", "recover_s", "rebalance_s", "rss_mb", "rss_mb_100k"} <= set(found)
