"""Goal: both clients retry where that is safe, with the same request id, and raise the same errors.

Method: each case runs with the async client, and with the sync one in a thread, against one real server.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1 import orders_pb2

from chassis.rpc.errors import ApiError
from groupbuy_client import (
    AsyncClient,
    Client,
    FailedPrecondition,
    InvalidRequest,
    Overloaded,
    TimedOut,
    Unavailable,
    mtls,
    transport,
)
from groupbuy_client.transport import CallRetries, WatchRetries
from tests.unit.client.shop import GROUP, LINE, NAME, dropped, overloaded, serving, unavailable

Call = Callable[..., Awaitable[Any]]


def with_async(target: str, method: str, *given: Any, **named: Any) -> Awaitable[Any]:
    async def call() -> Any:
        async with AsyncClient(target, timeout_s=20) as client:
            found = getattr(client, method)(*given, **named)
            return [one async for one in found] if isinstance(found, AsyncIterable) else await found

    return call()


def with_sync(target: str, method: str, *given: Any, **named: Any) -> Awaitable[Any]:
    def call() -> Any:
        with Client(target, timeout_s=20) as client:
            found = getattr(client, method)(*given, **named)
            return list(found) if inspect.isgenerator(found) or isinstance(found, map) else found

    return asyncio.to_thread(call)


@pytest.fixture(params=[with_async, with_sync], ids=["async", "sync"])
def call(request: pytest.FixtureRequest) -> Call:
    found: Call = request.param
    return found


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def public(kind: type) -> dict[str, list[inspect.Parameter]]:
        return {
            name: list(inspect.signature(method).parameters.values())
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert public(Client) == public(AsyncClient)


async def test_a_request_id_is_made_once_and_kept_over_all_retries(call: Call) -> None:
    async with serving() as (fake, target):
        fake.fails = [overloaded(), dropped(), overloaded()]
        answer = await call(target, "place_order", **LINE)
        assert answer.order.name == NAME
        ids = {request.request_id for request in fake.seen}
        assert (len(fake.seen), len(ids)) == (4, 1)
        assert UUID(ids.pop()).version == 7
        assert fake.seen[0].quantity == 1


async def test_unavailable_is_retried_by_the_service_config_with_the_same_id(call: Call) -> None:
    async with serving() as (fake, target):
        fake.fails = [unavailable(), unavailable()]
        await call(target, "place_order", **LINE)
        assert len(fake.seen) == 3
        assert len({request.request_id for request in fake.seen}) == 1


async def test_a_given_request_id_is_the_callers(call: Call) -> None:
    async with serving() as (fake, target):
        mine = "5b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11"
        await call(target, "place_order", **LINE, request_id=mine)
        assert fake.seen[0].request_id == mine


async def test_a_batch_takes_messages_and_arguments_and_gives_each_an_id(call: Call) -> None:
    async with serving() as (fake, target):
        mine = orders_pb2.PlaceOrderRequest(**LINE, quantity=3)
        assert [one.index for one in await call(target, "place_orders", [LINE, mine])] == [0, 1]
        first, second = fake.seen[0].requests
        assert first.request_id
        assert second.request_id != first.request_id
        assert (first.quantity, second.quantity, mine.request_id) == (1, 3, "")


async def test_an_invalid_request_is_refused_field_by_field_and_not_retried(call: Call) -> None:
    async with serving() as (fake, target):
        with pytest.raises(InvalidRequest) as caught:
            await call(target, "place_order", **{**LINE, "currency": "yuan"}, quantity=0)
        assert caught.value.reason == "INVALID_FIELDS"
        assert set(caught.value.fields) == {"currency", "quantity"}
        assert isinstance(caught.value.__cause__, grpc.RpcError)
        assert fake.seen == []


async def test_a_refusal_has_its_class_and_its_reason(call: Call) -> None:
    async with serving() as (fake, target):
        closed = errors_pb2.ERROR_REASON_GROUP_NOT_CANCELLABLE
        fake.fails = [ApiError(grpc.StatusCode.FAILED_PRECONDITION, closed, "it has closed", metadata={"state": "X"})]
        with pytest.raises(FailedPrecondition, match="GROUP_NOT_CANCELLABLE: it has closed") as caught:
            await call(target, "get_group", GROUP)
        assert caught.value.metadata == {"state": "X"}
        assert len(fake.seen) == 1


async def test_all_pages_of_a_list_come_as_one(call: Call) -> None:
    async with serving() as (fake, target):
        found = await call(target, "list_orders", GROUP)
        assert [order.revision for order in found] == list(range(6))
        assert [request.page_token for request in fake.seen] == ["", "1", "2"]


async def test_a_watch_goes_on_where_its_connection_was_lost_and_repeats_nothing(call: Call) -> None:
    async with serving() as (fake, target):
        fake.breaks_after = {2: unavailable(), 3: overloaded()}
        assert [order.revision for order in await call(target, "watch_order", NAME)] == [1, 2, 3, 4]
        assert [request.from_revision for request in fake.seen] == [0, 2, 3]


async def test_a_refused_watch_raises(call: Call) -> None:
    async with serving() as (_, target):
        with pytest.raises(InvalidRequest) as caught:
            await call(target, "watch_order", "orders/1")
        assert isinstance(caught.value.__cause__, grpc.RpcError)


async def test_no_answer_by_the_deadline_is_a_time_out(call: Call) -> None:
    async with serving() as (fake, target):
        fake.fails = [ApiError(grpc.StatusCode.DEADLINE_EXCEEDED, errors_pb2.ERROR_REASON_ANSWER_PENDING, "pending")]
        with pytest.raises(TimedOut):
            await call(target, "place_order", **LINE)


async def test_a_service_without_a_target_is_named(call: Call) -> None:
    with pytest.raises(ValueError, match="no target for payments"):
        await with_payments(call)


async def with_payments(call: Call) -> None:
    if call is with_async:
        async with AsyncClient(orders="127.0.0.1:1") as client:
            await client.get_balances()
    else:
        with Client(orders="127.0.0.1:1") as client:
            client.get_balances()


def test_a_call_is_retried_only_within_its_deadline_and_with_a_delay_from_the_service() -> None:
    def error(retry_after_s: float) -> Overloaded:
        return Overloaded(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after_s=retry_after_s)

    assert 0.2 <= CallRetries(60).pause_after(error(0.2)) <= 0.3
    for timeout_s, refused in (
        (0.1, error(0.2)),
        (60, error(0)),
        (60, Unavailable(grpc.StatusCode.UNAVAILABLE, "away", retry_after_s=0.2)),
    ):
        with pytest.raises(type(refused)):
            CallRetries(timeout_s).pause_after(refused)


async def test_a_call_gives_up_after_its_last_attempt(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ATTEMPTS", 3)
    async with serving() as (fake, target):
        fake.fails = [overloaded() for _ in range(5)]
        with pytest.raises(Overloaded) as caught:
            await call(target, "place_order", **LINE)
        assert len(fake.seen) == 3
        assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_a_watch_backs_off_exponentially_and_gives_up_after_its_patience() -> None:
    now = 0.0
    away = Unavailable(grpc.StatusCode.UNAVAILABLE, "away")
    retries = WatchRetries(10, lambda: now)
    lengths = [retries.pause_after(away) for _ in range(8)]
    assert 0.4 <= lengths[0] <= 0.6
    assert 3.2 <= lengths[-1] <= 4.8
    retries.received()
    assert retries.pause_after(away) <= 0.6
    now = 11
    with pytest.raises(Unavailable):
        retries.pause_after(away)


def test_credentials_are_read_from_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mtls(tmp_path / "none", tmp_path / "none", tmp_path / "none")
