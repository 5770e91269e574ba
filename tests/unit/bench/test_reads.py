from __future__ import annotations

from typing import Any

import pytest
from groupbuy.payments.v1.decisions_pb2 import OPERATION_CAPTURE, OPERATION_VOID, ProviderCall

from bench.reads import __main__, history
from eventlog.core.partitioner import partition_of


def test_the_groups_of_all_partitions_are_all_groups() -> None:
    of_each = [list(history.chunks(50, partition, 4)) for partition in range(history.PARTITIONS)]
    assert sorted(index for chunks in of_each for chunk in chunks for index in chunk) == list(range(50))
    assert all(0 < len(chunk) <= 4 for chunks in of_each for chunk in chunks)


def test_there_is_a_sample_of_each_partition() -> None:
    indexes = __main__.samples(100)
    assert [partition_of(history.group_of(index), history.PARTITIONS) for index in indexes] == [0, 1, 2, 3]


def test_no_customer_takes_two_seats_of_a_group() -> None:
    assert len({history.customer(7, seat) for seat in range(history.SEATS)}) == history.SEATS


def test_the_provider_does_what_it_is_asked_for_and_nothing_else() -> None:
    call = ProviderCall(order="o", operation=OPERATION_CAPTURE, attempt=1, amount_minor=5, hold="h", currency="CNY")
    assert history.answer(call).captured.amount_minor == 5
    with pytest.raises(ValueError, match="o:void:1"):
        history.answer(ProviderCall(order="o", operation=OPERATION_VOID, attempt=1))


def test_the_longest_gap_reaches_to_both_ends() -> None:
    assert __main__.longest_gap([], 1.0, 4.0) == 3.0
    assert __main__.longest_gap([0.5, 2.0, 2.5, 9.0], 1.0, 4.0) == 1.5
    assert __main__.longest_gap([1.5, 3.5], 1.0, 4.0) == 2.0


def figures(recover_s: float = 1.0, takeover_s: float = 12.0, orders_mb: int = 210) -> dict[str, Any]:
    recover = {"orders": recover_s, "groups": 1.0, "payments": 1.0}
    rss = {"orders": orders_mb, "groups": 150, "payments": 150}
    return {"orders": 100, "recover_s": recover, "join_s": 1.0, "takeover_s": takeover_s, "rss_mb": rss}


@pytest.mark.parametrize(
    ("whole", "holds"),
    [
        (figures(), [True, True, True, True]),
        (figures(recover_s=5.1), [False, True, True, True]),
        (figures(takeover_s=15.1), [True, False, True, True]),
        (figures(orders_mb=230), [True, True, True, False]),
        (figures(orders_mb=401), [True, True, False, False]),
    ],
)
def test_each_claim_is_judged_by_the_worst_service(whole: dict[str, Any], holds: list[bool]) -> None:
    found, judged = __main__.claims(whole, figures(orders_mb=200))
    assert judged == holds
    assert {"orders", "recover_s", "rebalance_s", "rss_mb", "rss_mb_100k"} <= set(found)
