"""The fixture for other repositories: every service is ready, and a killed service restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from devstack.kafka.probe import answers
from devstack.supervision.waiting import wait_for

if TYPE_CHECKING:
    from groupbuy_testing.running import RunningStack

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("name", ["orders", "groups", "payments", "provider"])
def test_every_server_serves_on_a_ready_channel(groupbuy_stack: RunningStack, name: str) -> None:
    stub = health_pb2_grpc.HealthStub(getattr(groupbuy_stack, name))
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == SERVING


async def test_channels_for_asyncio_are_made_on_demand(groupbuy_stack: RunningStack) -> None:
    async with groupbuy_stack.aio("groups") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == SERVING


def test_the_broker_answers(groupbuy_stack: RunningStack) -> None:
    assert answers(groupbuy_stack.kafka)


def test_a_killed_service_serves_again_at_the_same_address(groupbuy_stack: RunningStack) -> None:
    stack, stub = groupbuy_stack.stack, health_pb2_grpc.HealthStub(groupbuy_stack.groups)
    first = stack.pid("groups")
    stack.kill("groups")
    assert wait_for(lambda: stack.pid("groups") not in {None, first}, timeout_s=10)
    stack.wait_serving("groups")
    request = health_pb2.HealthCheckRequest()
    assert stub.Check(request, timeout=5, wait_for_ready=True).status == SERVING
