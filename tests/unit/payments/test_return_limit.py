"""Returns of unexpected funds have a limit per hour; approved ones do not. Method: calls at chosen times."""

from __future__ import annotations

from groupbuy.payments.v1.decisions_pb2 import OPERATION_REFUND, ProviderCall

from services.payments.processors.return_limit import HOUR_MS, LIMITED, STOPPED, ReturnLimit


def call(**fields: bool) -> ProviderCall:
    return ProviderCall(order="o1", operation=OPERATION_REFUND, attempt=1, **fields)  # type: ignore[arg-type] # flags


def test_beyond_the_limit_a_return_waits_until_the_hour_is_over() -> None:
    limit = ReturnLimit(2)
    stray = call(returns_suspense=True)
    assert limit.refuse(stray, 0) is None
    assert limit.refuse(stray, 1_000) is None
    refused = limit.refuse(stray, 2_000)
    assert refused is not None
    assert (refused.retry_later.error, refused.retry_later.after_ms) == (LIMITED, HOUR_MS - 2_000)
    assert limit.refuse(stray, HOUR_MS) is None


def test_other_calls_and_approved_returns_neither_wait_nor_count() -> None:
    limit = ReturnLimit(1)
    for _ in range(3):
        assert limit.refuse(call(), 0) is None
        assert limit.refuse(call(returns_suspense=True, approved=True), 0) is None
    assert limit.refuse(call(returns_suspense=True), 0) is None


def test_a_limit_of_none_stops_all_returns_without_approval() -> None:
    refused = ReturnLimit(0).refuse(call(returns_suspense=True), 0)
    assert refused is not None
    assert (refused.retry_later.error, refused.retry_later.after_ms) == (STOPPED, HOUR_MS)
