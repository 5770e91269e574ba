"""Access ends with the certificate, its authority and the policy's row, for calls and for streams.

Over real connections that were made before. Nothing here waits for a connection to end by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.identity.authorizer import Authorizer
from chassis.identity.policy import FILE, PolicySource
from chassis.routing.peer_calls import to_exception
from chassis.rpc.errors import ApiError
from chassis.rpc.server import WITHDRAW_S, Servicer
from devstack.certificates.ca import Authority, Issued
from eventlog.core.errors import NotReady
from tests.unit.chassis.fake_orders import ORDERS, FakeOrders
from tests.unit.chassis.identity.support import IDENTITIES, SOON_S, answer, call, calling, methods, serving
from tests.unit.chassis.support import NAME, a_request

GET = next(one for one in methods("orders") if one.name == "GetOrder")
SHOP = IDENTITIES["shop"]


class Streams:
    """One of each kind of stream that a caller may open."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        orders: Any = orders_pb2_grpc.OrderServiceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        self.all: dict[str, Any] = {
            "WatchOrder": orders.WatchOrder(orders_pb2.WatchOrderRequest(name=NAME)),
            "PlaceOrders": orders.PlaceOrders(),
            "Watch": health.Watch(health_pb2.HealthCheckRequest()),
        }

    async def begin(self) -> None:
        await self.all["PlaceOrders"].write(orders_pb2.PlaceOrdersRequest(requests=[a_request()]))
        for one in self.all.values():
            await one.read()

    async def ended(self) -> dict[str, tuple[grpc.StatusCode, str]]:
        """The error of each stream."""
        found = {}
        for name, one in self.all.items():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while True:
                    await one.read()
            got = answer(caught.value)
            found[name] = got.code, got.reason
        return found


@asynccontextmanager
async def streaming(
    server: Issued, caller: Issued, policy: Path = FILE
) -> AsyncIterator[tuple[Streams, grpc.aio.Channel]]:
    """Open streams and the channel that they share."""
    fake = FakeOrders()
    servicer = Servicer(orders_pb2_grpc.add_OrderServiceServicer_to_server, fake, ORDERS)
    async with serving("orders", server, policy, (servicer,)) as port, calling(port, caller) as channel:
        streams = Streams(channel)
        await streams.begin()
        yield streams, channel
        fake.release.set()


UNKNOWN = (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_REQUIRED")
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "METHOD_NOT_ALLOWED")


async def test_streams_and_calls_end_when_the_certificate_expires(
    authority: Authority, certificates: dict[str, Issued]
) -> None:
    life = timedelta(seconds=8)
    since = datetime.now(UTC).replace(microsecond=0)
    short = authority.issue("shop_short", SHOP, since=since, life=life)
    async with streaming(certificates["orders"], short) as (streams, channel), asyncio.timeout(SOON_S):
        assert (await call(channel, GET)).code is not grpc.StatusCode.UNAUTHENTICATED
        assert await streams.ended() == dict.fromkeys(streams.all, UNKNOWN)
        late_s = time.time() - (since + life).timestamp()
        # Within one check of the calls in flight, with a margin for a busy machine.
        assert 0 <= late_s < WITHDRAW_S + 5
        got = await call(channel, GET)
        assert (got.code, got.reason) == UNKNOWN


async def test_streams_and_calls_end_when_the_authority_leaves_the_bundle(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    server = old.issue("orders", IDENTITIES["orders"])
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.certificate.read_bytes() + new.certificate.read_bytes())
    served = Issued(server.certificate, server.key, bundle)
    shop, other = old.issue("shop", SHOP), new.issue("shop", SHOP)
    stays = Issued(other.certificate, other.key, old.certificate)
    async with streaming(served, shop) as (streams, channel), asyncio.timeout(SOON_S):
        bundle.write_bytes(new.certificate.read_bytes())
        assert await streams.ended() == dict.fromkeys(streams.all, UNKNOWN)
        got = await call(channel, GET)
        assert (got.code, got.reason) == UNKNOWN
    bundle.write_bytes(old.certificate.read_bytes() + new.certificate.read_bytes())
    async with streaming(served, stays) as (_, channel), asyncio.timeout(SOON_S):
        bundle.write_bytes(new.certificate.read_bytes())
        assert (await call(channel, GET)).code is not grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("change", "ended"),
    [
        (lambda text: text.replace('WatchOrder       = ["shop", ', "WatchOrder       = ["), ("WatchOrder",)),
        (
            lambda text: text.replace(f'shop     = "{SHOP}"', f'shop     = "{SHOP}-2"'),
            ("WatchOrder", "PlaceOrders", "Watch"),
        ),
    ],
)
async def test_streams_end_when_the_policy_no_longer_allows_them(
    certificates: dict[str, Issued], tmp_path: Path, change: Callable[[str], str], ended: tuple[str, ...]
) -> None:
    table = tmp_path / "policy.toml"
    text = FILE.read_text(encoding="utf-8")
    table.write_text(text, encoding="utf-8")
    async with streaming(certificates["orders"], certificates["shop"], table) as (streams, _), asyncio.timeout(SOON_S):
        # An invalid policy changes nothing.
        table.write_text("[limits", encoding="utf-8")
        assert change(text) != text
        table.write_text(change(text), encoding="utf-8")
        for name in set(streams.all) - set(ended):
            kept = streams.all.pop(name)
            assert not kept.done()
        assert await streams.ended() == dict.fromkeys(ended, DENIED)


def test_an_invalid_policy_is_not_loaded(tmp_path: Path) -> None:
    table = tmp_path / "policy.toml"
    text = FILE.read_text(encoding="utf-8")
    table.write_text(text, encoding="utf-8")
    source = PolicySource(table, "orders")
    served = source.read().allowed.keys()
    assert source.newer(served) is None
    for bad in ("[limits", text.replace("GetOrder  ", "GetOrders "), text.replace('["shop", ', '["shopp", ')):
        table.write_text(bad, encoding="utf-8")
        assert source.newer(served) is None
    table.unlink()
    assert source.newer(served) is None
    table.write_text(text, encoding="utf-8")
    assert source.newer(served) is not None


def test_a_policy_that_renames_our_own_identity_is_not_loaded(tmp_path: Path) -> None:
    table = tmp_path / "policy.toml"
    text = FILE.read_text(encoding="utf-8")
    table.write_text(text, encoding="utf-8")
    source = PolicySource(table, "orders")
    access = Authorizer(source.read(), own=IDENTITIES["orders"], source=source)
    access.check(source.read().allowed.keys())
    orders = f'orders   = "{IDENTITIES["orders"]}"'
    assert orders in text
    table.write_text(text.replace(orders, f'orders   = "{IDENTITIES["orders"]}-2"'), encoding="utf-8")
    assert not access.refresh()
    table.write_text(text + "\n", encoding="utf-8")
    assert access.refresh()


def test_a_replica_whose_own_certificate_has_expired_retries() -> None:
    """The caller is not at fault: the channel to the other replica is replaced with the renewed certificate."""
    metadata = grpc.aio.Metadata()
    gone = grpc.aio.AioRpcError(grpc.StatusCode.UNAUTHENTICATED, metadata, metadata, "expired", "")
    assert isinstance(to_exception(gone), NotReady)
    other = grpc.aio.AioRpcError(grpc.StatusCode.PERMISSION_DENIED, metadata, metadata, "no", "")
    assert isinstance(to_exception(other), ApiError)
