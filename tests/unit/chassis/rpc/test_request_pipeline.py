"""The checks of a business call before its servicer, and the error of each check.

Over a real connection: the codes, and every detail of the status, are what a client gets.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
import structlog
from groupbuy.errors.v1 import errors_pb2
from groupbuy.groups.v1 import campaigns_pb2
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc

from chassis.rpc import validation
from chassis.rpc.errors import ApiError
from chassis.rpc.request_pipeline import MAX_MESSAGE_BYTES
from eventlog.core.errors import BrokerUnavailable, NotReady
from tests.unit.chassis.fake_orders import ORDERS
from tests.unit.chassis.support import NAME, SOON_S, Running, a_request, eventually, refusal, running


def raising(run: Running, error: Exception) -> None:
    async def place() -> None:
        raise error

    run.fake.place = place


async def test_a_valid_call_is_answered() -> None:
    async with running() as run:
        answer = await run.place()
        assert answer.consistency_token == "1:2"
        assert run.fake.seen == [a_request()]


async def test_an_api_error_arrives_with_its_reason_fields_metadata_and_delay() -> None:
    async with running() as run:
        raising(
            run,
            ApiError(
                grpc.StatusCode.FAILED_PRECONDITION,
                errors_pb2.ERROR_REASON_CAMPAIGN_ARCHIVED,
                "the campaign is archived",
                fields=[("campaign", "is archived")],
                metadata={"campaign": "mug"},
                retry_after_ms=1500,
            ),
        )
        got = await refusal(run.place())
        assert (got.code, got.details) == (grpc.StatusCode.FAILED_PRECONDITION, "the campaign is archived")
        assert got.status.code == 9
        assert got.info.reason == "CAMPAIGN_ARCHIVED"
        assert dict(got.info.metadata) == {"campaign": "mug"}
        assert got.fields == {"campaign": "is archived"}
        assert got.retry_after_ms == 1500
        assert got.trailing["grpc-retry-pushback-ms"] == "1500"


@pytest.mark.parametrize(
    ("raised", "reason"), [(NotReady("recovering"), "NOT_READY"), (BrokerUnavailable("gone"), "BROKER_UNAVAILABLE")]
)
async def test_errors_of_the_kernel_tell_the_caller_to_retry(raised: Exception, reason: str) -> None:
    async with running() as run:
        raising(run, raised)
        got = await refusal(run.place())
        assert got.code is grpc.StatusCode.UNAVAILABLE
        assert got.info.reason == reason
        assert got.retry_after_ms > 0


async def test_an_unexpected_error_is_logged_under_its_trace_and_its_text_is_not_sent() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with running() as run:
        raising(run, RuntimeError("the secret of the house"))
        with structlog.testing.capture_logs() as logs:
            got = await refusal(run.place(metadata=(("traceparent", f"00-{trace}-b7ad6b7169203331-01"),)))
        assert got.code is grpc.StatusCode.INTERNAL
        assert got.info.reason == "INTERNAL"
        assert got.info.metadata["trace"] == trace
        assert "secret" not in got.status.SerializeToString().decode(errors="replace")
        (logged,) = logs
        assert (logged["method"], logged["trace"]) == (f"/{ORDERS}/PlaceOrder", trace)
        assert str(logged["exc_info"]) == "the secret of the house"


async def test_a_servicer_may_abort() -> None:
    async with running() as run:
        request = orders_pb2.CancelOrderRequest(name=NAME, request_id=a_request().request_id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await run.orders.CancelOrder(request, timeout=SOON_S)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "by its own hand")


async def test_every_invalid_field_is_named_without_its_value() -> None:
    async with running() as run:
        got = await refusal(run.place(a_request(quantity=0, currency="yuan", payment_method="x" * 300, request_id="")))
        assert got.code is grpc.StatusCode.INVALID_ARGUMENT
        assert got.info.reason == "INVALID_FIELDS"
        assert set(got.fields) == {"quantity", "currency", "payment_method", "request_id"}
        assert "xxx" not in str(got.status)
        assert run.fake.seen == []


async def test_a_rule_of_the_message_has_no_field() -> None:
    async with running() as run:
        got = await refusal(run.place(a_request(solo=True, group=NAME[:43])))
        assert got.fields == {"": "only one of solo, group can be set"}


def test_a_field_path_has_the_index_of_a_repeated_field() -> None:
    tiers = [campaigns_pb2.Tier(members=2, unit_price_minor=5), campaigns_pb2.Tier(members=5, unit_price_minor=-5)]
    request = campaigns_pb2.CreateCampaignRequest(campaign=campaigns_pb2.Campaign(tiers=tiers))
    with pytest.raises(ApiError) as caught:
        validation.validate(request)
    assert "campaign.tiers[1].unit_price_minor" in dict(caught.value.fields)


async def test_an_error_with_too_many_violations_for_a_header_arrives() -> None:
    fields = [(f"campaign.tiers[{i}].{'x' * 500}", "y" * 5_000) for i in range(1_000)]
    async with running() as run:
        raising(run, validation.invalid_fields(fields))
        got = await refusal(run.place())
        assert got.info.reason == "INVALID_FIELDS"
        assert len(got.fields) == 10


async def test_a_unary_call_without_a_deadline_is_refused() -> None:
    async with running() as run:
        got = await refusal(run.place(within_s=None))
        assert got.code is grpc.StatusCode.INVALID_ARGUMENT
        assert got.info.reason == "DEADLINE_REQUIRED"
        assert run.fake.seen == []


async def test_a_megabyte_of_text_is_refused_with_the_limit() -> None:
    async with running() as run:
        got = await refusal(run.place(a_request(customer="c" * 1_000_000)))
        assert got.code is grpc.StatusCode.INVALID_ARGUMENT
        assert got.info.reason == "MESSAGE_TOO_LARGE"
        assert got.info.metadata["limit_bytes"] == str(MAX_MESSAGE_BYTES)


async def test_invalid_bytes_are_refused() -> None:
    async with running() as run:
        call: Any = run.channel.unary_unary(f"/{ORDERS}/PlaceOrder", None, None)
        got = await refusal(call(b"\xff\xff\xff", timeout=SOON_S))
        assert got.code is grpc.StatusCode.INVALID_ARGUMENT
        assert got.info.reason == "INVALID_FIELDS"


async def test_a_call_above_the_limit_is_refused_with_a_delay_and_accepted_later() -> None:
    async with running(max_calls=2) as run:
        run.fake.place = run.fake.hang
        waiting = [asyncio.ensure_future(run.place()) for _ in range(2)]
        await eventually(lambda: len(run.server.pipeline.unary) == 2)
        refused = await refusal(run.place())
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.info.reason == "OVERLOADED"
        assert refused.retry_after_ms > 0
        run.fake.release.set()
        await asyncio.gather(*waiting)
        assert (await run.place()).consistency_token == "1:2"
        assert len(run.server.pipeline.unary) == 0


async def test_a_cancelled_call_frees_its_slot() -> None:
    async with running(max_calls=1) as run:
        run.fake.place = run.fake.hang
        call = run.orders.PlaceOrder(a_request(), timeout=SOON_S)
        waiting = asyncio.ensure_future(_answer(call))
        await asyncio.wait_for(run.fake.inside.wait(), SOON_S)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await eventually(lambda: len(run.server.pipeline.unary) == 0)


async def _answer(call: Any) -> Any:
    return await call


async def test_a_method_that_is_not_served_is_unimplemented() -> None:
    def add_without_get_order(servicer: Any, server: Any) -> None:
        handler = grpc.unary_unary_rpc_method_handler(
            servicer.PlaceOrder,
            request_deserializer=orders_pb2.PlaceOrderRequest.FromString,
            response_serializer=orders_pb2.PlaceOrderResponse.SerializeToString,
        )
        base: Any = orders_pb2_grpc.OrderServiceServicer.GetOrder
        unserved = grpc.unary_unary_rpc_method_handler(base)
        server.add_registered_method_handlers(ORDERS, {"PlaceOrder": handler, "GetOrder": unserved})

    async with running(add=add_without_get_order) as run:
        assert (await run.place()).consistency_token == "1:2"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await run.orders.GetOrder(orders_pb2.GetOrderRequest(name=NAME), timeout=SOON_S)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_blocking_servicer_is_refused_at_start() -> None:
    def add_blocking(servicer: Any, server: Any) -> None:
        handler = grpc.unary_unary_rpc_method_handler(lambda request, context: None)
        server.add_registered_method_handlers(ORDERS, {"PlaceOrder": handler})

    with pytest.raises(TypeError, match="is not async"):
        async with running(add=add_blocking):
            raise AssertionError("it started")
