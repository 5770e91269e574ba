"""The committed service configs match the contract, and a gRPC client applies them."""

from __future__ import annotations

import json

import grpc
import pytest
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc

from chassis.rpc.client_config import retry_policy, service_config
from chassis.rpc.errors import ApiError
from groupbuy_client.transport import TIMEOUT_S
from tests.unit.chassis.support import SOON_S, a_request, refusal, running


@pytest.mark.parametrize("service", list(service_config.FILES))
def test_the_committed_file_is_up_to_date(service: str) -> None:
    committed = service_config.path(service).read_text(encoding="utf-8")
    assert committed == service_config.text(service), "run `python -m chassis.rpc.client_config.service_config`"


def test_every_method_is_retried_except_client_streams_and_none_waits_for_its_connection() -> None:
    named = [
        (name["service"], name["method"])
        for service in service_config.FILES
        for method in service_config.config(service)["methodConfig"]
        for name in method["name"]
    ]
    every = [
        (one.full_name, method.name)
        for files in service_config.FILES.values()
        for file in files
        for one in file.services_by_name.values()
        for method in one.methods
    ]
    assert sorted(named) == sorted(set(every) - {("groupbuy.orders.v1.OrderService", "PlaceOrders")})
    # A call to a wrong address fails at once, with the reason.
    assert not any("waitForReady" in service_config.text(service) for service in service_config.FILES)


def test_the_pauses_of_all_attempts_are_longer_than_a_restart_whatever_the_jitter() -> None:
    policy = service_config.config("orders")["methodConfig"][0]["retryPolicy"]
    pause_s, factor = float(policy["initialBackoff"].removesuffix("s")), policy["backoffMultiplier"]
    most_s = float(policy["maxBackoff"].removesuffix("s"))
    pauses = [min(pause_s * factor**number, most_s) for number in range(policy["maxAttempts"] - 1)]
    assert policy["maxAttempts"] <= 5, "gRPC ignores more"
    assert sum(pauses) * (1 - retry_policy.JITTER) == pytest.approx(retry_policy.bridged_s())
    assert retry_policy.bridged_s() > retry_policy.RESTART_S
    # The last attempt is in time for the deadline of the client and of the examples.
    assert sum(pauses) * (1 + retry_policy.JITTER) < TIMEOUT_S


async def test_a_client_with_the_config_retries_while_a_service_is_unavailable() -> None:
    async with running() as run:
        calls = 0

        async def recovering() -> None:
            nonlocal calls
            calls += 1
            if calls < 3:
                raise ApiError(
                    grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_NOT_READY, "not yet", retry_after_ms=10
                )

        run.fake.place = recovering
        options = [("grpc.service_config", json.dumps(service_config.config("orders")))]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{run.port}", options=options) as channel:
            stub = orders_pb2_grpc.OrderServiceStub(channel)
            assert (await stub.PlaceOrder(a_request(), timeout=SOON_S)).consistency_token
            assert calls == 3
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.CancelOrder(
                    orders_pb2.CancelOrderRequest(
                        name=f"groups/{'0' * 36}/orders/{'0' * 36}", request_id=a_request().request_id
                    ),
                    timeout=SOON_S,
                )


async def test_a_client_without_time_for_a_retry_receives_the_error_at_once() -> None:
    async with running() as run:

        async def recovering() -> None:
            raise ApiError(
                grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_NOT_READY, "not yet", retry_after_ms=10**6
            )

        run.fake.place = recovering
        options = [("grpc.service_config", json.dumps(service_config.config("orders")))]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{run.port}", options=options) as channel:
            refused = await refusal(orders_pb2_grpc.OrderServiceStub(channel).PlaceOrder(a_request(), timeout=2))
    assert refused.code is grpc.StatusCode.UNAVAILABLE
    assert refused.retry_after_ms == 10**6
