"""Every method of every process, called by every identity, by strangers and without one: the policy is enforced.

Over real connections with real certificates, all pairs, none sampled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from chassis.identity.policy import FILE, PolicyError, read
from chassis.routing.peer_calls import CALLER, FORWARDED, PARTITIONS
from devstack.certificates.ca import Authority, Issued
from tests.unit.chassis.identity.support import (
    PROCESSES,
    SOON_S,
    Answer,
    answer,
    call,
    calling,
    methods,
    path,
    services,
    serving,
)

DENIED = Answer(grpc.StatusCode.PERMISSION_DENIED, "METHOD_NOT_ALLOWED")
UNKNOWN = Answer(grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_REQUIRED")
#: Answers that show that the call was admitted: an empty request fails at the rules of its fields.
LET_IN = {
    Answer(grpc.StatusCode.OK),
    Answer(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS"),
    Answer(grpc.StatusCode.NOT_FOUND, "INVALID_FIELDS"),  # channelz: no such id
}

#: Metadata that replicas send to each other. The first three are a forwarded call's.
MARKS = (
    ((FORWARDED, "1"),),
    ((FORWARDED, "1"), (PARTITIONS, "1")),
    ((FORWARDED, "1"), (CALLER, "operator")),
    ((PARTITIONS, "1"),),
    ((CALLER, "operator"),),
)

#: SPIFFE ids that are not in the policy, and the answer to a caller with them.
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
    """Every caller, with its name and a channel, combined with every method."""
    for name, issued in callers.items():
        async with calling(port, issued, process) as channel:
            for method in methods(process):
                yield name, channel, method


@pytest.mark.parametrize("process", PROCESSES)
async def test_every_identity_may_call_exactly_the_methods_of_the_policy(
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
async def test_an_identity_that_is_not_in_the_policy_may_call_no_method(
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
async def test_a_service_may_only_forward_calls_and_no_other_identity_may(
    process: str, certificates: dict[str, Issued]
) -> None:
    table = read(FILE, process)
    wrong = []
    async with serving(process, certificates[process]) as port:
        async for name, channel, method in pairs(port, process, certificates):
            forwards = name == process and path(method) in table.forwarded
            if forwards and (got := await call(channel, method)) != DENIED:
                wrong.append((name, path(method), "no mark", got))
            for mark in MARKS:
                got = await call(channel, method, *mark)
                if (got not in LET_IN) if forwards and mark[0][0] == FORWARDED else (got != DENIED):
                    wrong.append((name, path(method), str(mark), got))
    assert wrong == []
    assert table.forwarded


#: Methods that libraries could add by themselves, and one that a process once served to itself.
NOT_IN_THE_TABLE = (
    "/grpc.health.v1.Health/List",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/groupbuy.chassis.Queue/Wait",
)


@pytest.mark.parametrize("process", PROCESSES)
async def test_a_method_that_is_not_in_the_policy_is_served_to_no_identity(
    process: str, certificates: dict[str, Issued], strangers: dict[str, Issued]
) -> None:
    async with serving(process, certificates[process]) as port:
        for name, issued in strangers.items():
            async with calling(port, issued, process) as channel:
                for other in NOT_IN_THE_TABLE:
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await channel.unary_unary(other, None, None)(b"", timeout=SOON_S)
                    assert answer(caught.value) == STRANGERS[name][1], (name, other)
        for issued in certificates.values():
            async with calling(port, issued, process) as channel:
                for other in NOT_IN_THE_TABLE:
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await channel.unary_unary(other, None, None)(b"", timeout=SOON_S)
                    assert answer(caught.value) == Answer(grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_ALLOWED"), other


def test_every_method_has_a_caller_and_no_identity_may_call_all() -> None:
    for process in PROCESSES:
        table = read(FILE, process)
        table.check({path(method) for method in methods(process)})
        assert all(table.allowed.values())
        for name in table.names.values():
            assert any(name not in allowed for allowed in table.allowed.values()), name


def test_methods_that_move_money_or_prices_have_one_identity_each() -> None:
    allowed = {method: who for process in PROCESSES for method, who in read(FILE, process).allowed.items()}
    assert allowed["/groupbuy.payments.v1.PaymentService/RefundPayment"] == {"support"}
    assert allowed["/groupbuy.payments.v1.PaymentService/NotifyPayment"] == {"webhooks"}
    operators = {name.rpartition("/")[2]: who for name, who in allowed.items() if "OperatorService" in name}
    assert operators.pop("ListIssues") == {"support", "finance", "operator", "console"}
    # The second person of an adjustment may be of another department.
    assert operators.pop("ApproveAdjustment") == {"finance", "operator", "console"}
    # The console acts for an operator who gave a password. Of adjustments it approves those of other identities alone.
    assert set(map(frozenset, operators.values())) == {frozenset({"operator", "console"})}
    assert allowed["/groupbuy.groups.v1.GroupService/CancelGroup"] == {"merchant", "support", "operator", "console"}
    assert allowed["/groupbuy.groups.v1.CampaignService/UpdateCampaign"] == {"merchant"}
    assert allowed["/groupbuy.orders.v1.OrderService/PlaceOrder"] == {"shop"}


def test_no_method_lists_its_own_service(tmp_path: Path) -> None:
    for process in PROCESSES:
        table = read(FILE, process)
        for service in services(process):
            for method, who in table.allowed.items():
                assert not (method.startswith(f"/{service}/") and who & {*PROCESSES, "provider"}), method
    file = tmp_path / "policy.toml"
    old = 'PlaceOrder       = ["shop", "replicas"]'
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, 'PlaceOrder = ["shop", "orders"]'), encoding="utf-8")
    with pytest.raises(PolicyError, match="a service may only forward"):
        read(file, "orders")
