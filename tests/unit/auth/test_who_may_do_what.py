"""Every method of every process, called by every identity, by none and by strangers: the table is what happens.

Over real connections with real certificates, all pairs, none sampled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from chassis.policy import FILE, read
from chassis.pressure import METHOD, SERVICE
from chassis.replicas_calls import FORWARDED, PARTITIONS
from deploy.ca import Authority, Issued
from tests.unit.auth.support import PROCESSES, SOON_S, Answer, call, calling, methods, path, serving

DENIED = Answer(grpc.StatusCode.PERMISSION_DENIED, "METHOD_NOT_ALLOWED")
UNKNOWN = Answer(grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_REQUIRED")
#: An empty request is let in, and then goes on to the rules of its fields.
LET_IN = {
    Answer(grpc.StatusCode.OK),
    Answer(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS"),
    Answer(grpc.StatusCode.INVALID_ARGUMENT),  # channelz's own, for an id that is not there
    Answer(grpc.StatusCode.NOT_FOUND),
}

#: SPIFFE ids that are in no table, and what a caller with them is told.
STRANGERS: Mapping[str, tuple[tuple[str, ...], Answer]] = {
    "none": ((), UNKNOWN),
    "two": (("spiffe://groupbuy.internal/client/shop", "spiffe://groupbuy.internal/client/merchant"), UNKNOWN),
    "not_spiffe": (("https://groupbuy.internal/client/shop",), UNKNOWN),
    "not_in_the_table": (("spiffe://groupbuy.internal/client/stranger",), DENIED),
    "below_one_in_the_table": (("spiffe://groupbuy.internal/client/shop/more",), DENIED),
    "of_another_domain": (("spiffe://elsewhere.example/client/shop",), DENIED),
    "local": (("spiffe://groupbuy.internal/local",), DENIED),
}


@pytest.fixture(scope="module")
def strangers(authority: Authority) -> dict[str, Issued]:
    return {name: authority.issue(f"stranger_{name}", *spiffe) for name, (spiffe, _) in STRANGERS.items()}


async def pairs(
    port: int, process: str, callers: Mapping[str, Issued]
) -> AsyncIterator[tuple[str, grpc.aio.Channel, MethodDescriptor]]:
    """Every caller, by name and with a channel, beside every method."""
    for name, issued in callers.items():
        async with calling(port, issued) as channel:
            for method in methods(process):
                yield name, channel, method


@pytest.mark.parametrize("process", PROCESSES)
async def test_every_identity_may_call_what_the_table_says_and_nothing_else(
    process: str, certificates: dict[str, Issued]
) -> None:
    table = read(FILE, process)
    wrong = []
    async with serving(process, certificates[process]) as port:
        async for name, channel, method in pairs(port, process, certificates):
            got = await call(channel, method)
            if (got not in LET_IN) if name in table.allowed[path(method)] else (got != DENIED):
                wrong.append((name, path(method), got))
    assert wrong == []


@pytest.mark.parametrize("process", PROCESSES)
async def test_whoever_is_not_in_the_table_may_call_nothing(
    process: str, certificates: dict[str, Issued], strangers: dict[str, Issued]
) -> None:
    wrong = []
    async with serving(process, certificates[process]) as port:
        async for name, channel, method in pairs(port, process, strangers):
            got = await call(channel, method)
            if got != STRANGERS[name][1]:
                wrong.append((name, path(method), got))
    assert wrong == []


@pytest.mark.parametrize("process", PROCESSES)
async def test_only_a_replica_of_the_same_service_passes_calls_on(
    process: str, certificates: dict[str, Issued]
) -> None:
    table = read(FILE, process)
    tried = []
    async with serving(process, certificates[process]) as port:
        async for name, channel, method in pairs(port, process, certificates):
            if name in table.allowed[path(method)]:
                for mark in (FORWARDED, PARTITIONS):
                    got = await call(channel, method, (mark, "1"))
                    tried.append((name, path(method), mark, got))
    assert [one for one in tried if (one[3] == DENIED) == (one[0] == process)] == []
    assert {name for name, *_ in tried} >= {process, "operator", "monitor"}


#: What libraries could serve without our asking, and what a process serves to itself.
NOT_IN_THE_TABLE = (
    "/grpc.health.v1.Health/List",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    f"/{SERVICE}/{METHOD}",
)


@pytest.mark.parametrize("process", PROCESSES)
async def test_what_is_not_in_the_table_is_served_to_nobody(process: str, certificates: dict[str, Issued]) -> None:
    async with serving(process, certificates[process]) as port:
        for issued in certificates.values():
            async with calling(port, issued) as channel:
                for other in NOT_IN_THE_TABLE:
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await channel.unary_unary(other, None, None)(b"", timeout=SOON_S)
                    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED, other


def test_every_method_can_be_called_by_somebody_but_nobody_can_call_all() -> None:
    for process in PROCESSES:
        table = read(FILE, process)
        table.check({path(method) for method in methods(process)})
        assert all(table.allowed.values())
        for name in table.names.values():
            assert any(name not in allowed for allowed in table.allowed.values()), name


def test_what_moves_money_or_prices_is_for_one_identity_each_and_for_the_replicas_that_pass_it_on() -> None:
    allowed = {method: who for process in PROCESSES for method, who in read(FILE, process).allowed.items()}
    assert allowed["/groupbuy.payments.v1.PaymentService/RefundPayment"] == {"support", "payments"}
    assert allowed["/groupbuy.payments.v1.PaymentService/NotifyPayment"] == {"webhooks"}
    assert allowed["/groupbuy.groups.v1.CampaignService/UpdateCampaign"] == {"merchant"}
    assert allowed["/groupbuy.orders.v1.OrderService/PlaceOrder"] == {"shop", "orders"}
