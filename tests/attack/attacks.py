"""The attacks: each bounded in number and time, over loopback, with the credentials of one identity or none."""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from groupbuy.groups.v1 import campaigns_pb2, groups_pb2, links_pb2
from groupbuy.orders.v1 import orders_pb2

from eventlog.broker.security import Cluster, KafkaSecurity, client
from services.orders.api.consistency_tokens import Token, encode
from shared_kernel.topics import ALL, ORDERS
from tests.attack.http2 import Peer
from tests.attack.others import an_order
from tests.attack.site import SERVICES, Site

ORDER, GROUP, CAMPAIGN, LINK, PAYMENT = (
    f"/groupbuy.{name}"
    for name in (
        "orders.v1.OrderService/",
        "groups.v1.GroupService/",
        "groups.v1.CampaignService/",
        "groups.v1.LinkService/",
        "payments.v1.PaymentService/",
    )
)
HEALTH, CHANNELZ = "/grpc.health.v1.Health/", "/grpc.channelz.v1.Channelz/"
#: Orders of one customer that there are.
ATTACKED = 500
#: Answers of the attacked process that refuse.
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    # gRPC's own, in a flood.
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNAVAILABLE,
}


@dataclass(slots=True)
class Outcome:
    """What the attacker has tried, and how much of it was refused, ended or cut off."""

    tried: int = 0
    refused: int = 0
    #: Answers that do not refuse, by code and text.
    others: dict[str, int] = field(default_factory=dict)

    def add(self, answer: str | None) -> None:
        """Counts an answer: None refuses."""
        self.tried += 1
        if answer is None:
            self.refused += 1
        else:
            self.others[answer] = self.others.get(answer, 0) + 1

    def join(self, other: Outcome) -> None:
        """Adds what another has counted."""
        self.tried += other.tried
        self.refused += other.refused
        for answer, times in other.others.items():
            self.others[answer] = self.others.get(answer, 0) + times


Try = Callable[[], Awaitable[Any]]


async def answer(call: Awaitable[Any]) -> str | None:
    """What a call was answered that was not refused; None: it was."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return None if error.code() in REFUSALS else f"{error.code().name} {error.details()}"
    return "OK"


async def many(calls: Iterable[Callable[[], Awaitable[Any]]], rate: float) -> Outcome:
    """Makes calls at an even rate a second, whether or not those before are answered: more than can be answered at all
    would be another attack, overload."""
    outcome = Outcome()
    loop = asyncio.get_running_loop()

    async def one(call: Callable[[], Awaitable[Any]]) -> None:
        outcome.add(await answer(call()))

    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number, call in enumerate(calls):
            await asyncio.sleep(max(began + number / rate - loop.time(), 0.0))
            tasks.create_task(one(call))
    return outcome


def raw(channel: grpc.aio.Channel, method: str, data: bytes, within_s: float = 30.0) -> Try:
    """A call with bytes as they are."""
    call: Any = channel.unary_unary(method, None, None)
    return lambda: call(data, timeout=within_s)


# One request that costs much --------------------------------------------------------------------------------------


async def broken_items(site: Site, size: float) -> Outcome:
    """Requests of 254 KiB with 130,000 or 65,000 items, each of them wrong."""
    tiers = campaigns_pb2.CreateCampaignRequest(campaign=campaigns_pb2.Campaign(tiers=[campaigns_pb2.Tier()] * 130_000))
    orders = orders_pb2.BatchPlaceOrdersRequest(requests=[orders_pb2.PlaceOrderRequest()] * 130_000)
    mask = campaigns_pb2.UpdateCampaignRequest(campaign=campaigns_pb2.Campaign(name=site.campaign))
    mask.update_mask.paths.extend(["x"] * 80_000)
    merchant, shop = site.channel("groups", "merchant"), site.channel("orders", "shop")
    calls = [
        raw(merchant, f"{CAMPAIGN}CreateCampaign", tiers.SerializeToString()),
        raw(merchant, f"{CAMPAIGN}UpdateCampaign", mask.SerializeToString()),
        raw(shop, f"{ORDER}BatchPlaceOrders", orders.SerializeToString()),
    ]
    try:
        return await many(calls * int(20 * size), 10.0)
    finally:
        await merchant.close(grace=None)
        await shop.close(grace=None)


async def long_lists(site: Site, size: float) -> Outcome:
    """Pages of 500 orders of one customer, as fast as they come."""
    support = site.channel("orders", "support")
    request = orders_pb2.ListOrdersRequest(parent="groups/-", customer="attacker", page_size=500)
    try:
        return await many([raw(support, f"{ORDER}ListOrders", request.SerializeToString())] * int(400 * size), 50.0)
    finally:
        await support.close(grace=None)


async def pictures(site: Site, size: float) -> Outcome:
    """Links with QR codes, each for another inviter."""
    shop = site.channel("groups", "shop")

    def one(number: int) -> Try:
        request = links_pb2.CreateShareLinkRequest(
            inviter=f"inviter-{number}-{uuid.uuid4()}",
            target=site.group,
            channel=1,  # type: ignore[arg-type] # the enum is open
            qr_format=links_pb2.QR_FORMAT_PNG,
        )
        return raw(shop, f"{LINK}CreateShareLink", request.SerializeToString())

    try:
        return await many((one(number) for number in range(int(600 * size))), 75.0)
    finally:
        await shop.close(grace=None)


async def unknown_campaigns(site: Site, size: float) -> Outcome:
    """Campaigns that there are not: read, and ordered from."""
    groups, orders = site.channel("groups", "shop"), site.channel("orders", "shop")

    def one(number: int) -> Try:
        name = f"campaigns/none-{number}"
        if number % 2:
            return raw(
                groups, f"{CAMPAIGN}GetCampaign", campaigns_pb2.GetCampaignRequest(name=name).SerializeToString(), 60.0
            )
        return raw(
            orders,
            f"{ORDER}PlaceOrder",
            an_order(site, number, campaign=name, customer="nobody").SerializeToString(),
            60.0,
        )

    try:
        return await many((one(number) for number in range(int(1_200 * size))), 150.0)
    finally:
        await groups.close(grace=None)
        await orders.close(grace=None)


# Waiting ----------------------------------------------------------------------------------------------------------


async def forged_tokens(site: Site, size: float) -> Outcome:
    """Consistency tokens for offsets that no log has, with a minute to wait."""
    shop = site.channel("orders", "shop")

    def one(number: int) -> Try:
        order = f"{site.group}/orders/{uuid.UUID(int=number)}"
        # One partition of four is the group's; tokens of the others are refused for that.
        request = orders_pb2.GetOrderRequest(name=order, token=encode(Token(number % 4, 10**15)))
        return raw(shop, f"{ORDER}GetOrder", request.SerializeToString(), 60.0)

    try:
        return await many((one(number) for number in range(int(1_200 * size))), 150.0)
    finally:
        await shop.close(grace=None)


async def closed_groups(site: Site, size: float) -> Outcome:
    """Forty batches of the same 500 orders, each of which waits until its group has closed."""
    shop = site.channel("orders", "shop")
    batch: Any = shop.unary_unary(f"{ORDER}BatchPlaceOrders", None, None)
    wanted = int(ATTACKED * size)
    waiting = orders_pb2.BatchPlaceOrdersRequest(
        requests=[an_order(site, number, wait=orders_pb2.WAIT_GROUP_CLOSED) for number in range(wanted)]
    )
    outcome = Outcome()
    try:
        calls = [asyncio.ensure_future(answer(batch(waiting.SerializeToString(), timeout=12.0))) for _ in range(40)]
        for one in calls:
            outcome.add(await one)
    finally:
        await shop.close(grace=None)
    return outcome


# Slow, silent and flooding peers ----------------------------------------------------------------------------------


async def counted(peers: list[Peer], within_s: float) -> Outcome:
    """Waits until the server has ended all streams of the peers, or closed their connections."""
    listening = [asyncio.ensure_future(peer.closed()) for peer in peers]
    until = time.monotonic() + within_s
    while time.monotonic() < until and any(peer.ended < peer.opened for peer in peers):
        await asyncio.wait(listening, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.05)
    outcome = Outcome(sum(peer.opened for peer in peers), sum(peer.ended for peer in peers))
    for peer in peers:
        peer.close()
    await asyncio.gather(*listening, return_exceptions=True)
    return outcome


async def unfinished_messages(site: Site, size: float) -> Outcome:
    """Calls whose requests never come, or only in part, with ten minutes to wait."""
    tls = site.tls("shop")
    peers = [await Peer.connect(site.endpoints["orders"], tls) for _ in range(10)]
    for peer in peers:
        for number in range(int(100 * size)):
            data = None if number % 2 else b"\x0a\x10half a message"
            await peer.call(f"{ORDER}PlaceOrder", data, whole=False)
    return await counted(peers, 25.0)


async def unread_answers(site: Site, size: float) -> Outcome:
    """Calls whose answers may not be sent: the window is 0."""
    tls = site.tls("shop")
    request = groups_pb2.GetGroupRequest(name=site.group).SerializeToString()
    peers = [await Peer.connect(site.endpoints["groups"], tls, window=0) for _ in range(5)]
    for peer in peers:
        for _ in range(int(200 * size)):
            await peer.call(f"{GROUP}GetGroup", request)
    return await counted(peers, 45.0)


async def silent_connections(site: Site, size: float) -> Outcome:
    """Connections from one address that say nothing at all, to each service."""
    outcome = Outcome()
    sockets: list[asyncio.StreamReader] = []
    writers: list[asyncio.StreamWriter] = []
    try:
        for service in SERVICES:
            host, _, port = site.endpoints[service].rpartition(":")
            for _ in range(int(2_500 * size)):
                outcome.tried += 1
                try:
                    reader, writer = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.2", 0))
                except OSError:
                    outcome.refused += 1
                else:
                    sockets.append(reader)
                    writers.append(writer)
        closed = [asyncio.ensure_future(_until_closed(reader)) for reader in sockets]
        await asyncio.wait(closed, timeout=20.0)
        outcome.refused += sum(one.done() for one in closed)
        for one in closed:
            one.cancel()
        await asyncio.gather(*closed, return_exceptions=True)
    finally:
        for writer in writers:
            writer.transport.abort()
    return outcome


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while await reader.read(1_000):
            pass


async def reset_flood(site: Site, size: float) -> Outcome:
    """Streams that are opened and reset, 15,000 a second, over one connection after the other."""
    tls = site.tls("shop")
    outcome = Outcome()
    until = time.monotonic() + 6.0 * size
    while time.monotonic() < until:
        try:
            peer = await Peer.connect(site.endpoints["orders"], tls, source="127.0.0.3")
        except (OSError, ssl.SSLError):
            outcome.tried += 1
            outcome.refused += 1
            await asyncio.sleep(0.1)
            continue
        closed = asyncio.ensure_future(peer.closed())
        outcome.tried += 1
        while time.monotonic() < until and not closed.done():
            with suppress(ConnectionError, ssl.SSLError):
                await peer.open_and_reset(f"{ORDER}GetOrder", 300)
            await asyncio.wait([closed], timeout=0.02)
        outcome.refused += closed.done()
        peer.close()
        await closed
    return outcome


# Side doors -------------------------------------------------------------------------------------------------------


async def not_allowed(site: Site, size: float) -> Outcome:
    """An identity that may hand in webhooks calls everything else."""
    methods = {
        "orders": [
            f"{ORDER}{one}" for one in ("PlaceOrder", "BatchPlaceOrders", "CancelOrder", "GetOrder", "ListOrders")
        ],
        "groups": [f"{GROUP}{one}" for one in ("GetGroup", "ListGroups", "CancelGroup")]
        + [f"{CAMPAIGN}CreateCampaign"],
        "payments": [f"{PAYMENT}{one}" for one in ("GetPayment", "ListPayments", "RefundPayment", "GetBalances")],
    }
    outcome = Outcome()
    for service, names in methods.items():
        channel = site.channel(service, "webhooks")
        try:
            calls = [raw(channel, name, b"") for name in names]
            found = await many(calls * int(150 * size), 200.0)
        finally:
            await channel.close(grace=None)
        outcome.join(found)
    return outcome


async def garbage(site: Site, size: float) -> Outcome:
    """Bytes that are no message, to operational methods, business methods and methods that there are not."""
    outcome = Outcome()
    for service in SERVICES:
        channel = site.channel(service, "operator")
        names = (
            f"{HEALTH}Check",
            f"{CHANNELZ}GetServer",
            f"{CHANNELZ}GetServers",
            f"{CHANNELZ}GetSocket",
            "/groupbuy.none.v1.NoService/None",
        )
        try:
            calls = [raw(channel, name, b"\xff\xff\xff garbage") for name in names]
            found = await many(calls * int(50 * size), 100.0)
        finally:
            await channel.close(grace=None)
        outcome.join(found)
    return outcome


async def strangers(site: Site, size: float) -> Outcome:
    """Calls in plaintext, and without a certificate."""
    outcome = Outcome()
    for service in SERVICES:
        plain = grpc.aio.insecure_channel(site.endpoints[service], options=(("grpc.enable_retries", 0),))
        nobody = grpc.ssl_channel_credentials(site.authority)
        unnamed = grpc.aio.secure_channel(
            site.endpoints[service],
            nobody,
            options=(
                ("grpc.enable_retries", 0),
                ("grpc.ssl_target_name_override", f"{service}.service.groupbuy.internal"),
            ),
        )
        for channel in (plain, unnamed):
            try:
                found = await many([raw(channel, f"{HEALTH}Check", b"", 2.0)] * int(20 * size), 20.0)
            finally:
                await channel.close(grace=None)
            outcome.join(found)
    return outcome


async def half_webhooks(site: Site, size: float) -> Outcome:
    """Webhooks that are begun and never ended."""
    host, _, port = site.webhooks.rpartition(":")
    head = b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    found = Outcome()
    writers: list[asyncio.StreamWriter] = []
    closed: list[asyncio.Future[None]] = []
    try:
        for number in range(int(1_500 * size)):
            found.tried += 1
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                found.refused += 1
                continue
            writers.append(writer)
            writer.write(head if number % 2 else head[:20])
            closed.append(asyncio.ensure_future(_until_closed(reader)))
        if closed:
            await asyncio.wait(closed, timeout=15.0)
        found.refused += sum(one.done() for one in closed)
        for one in closed:
            one.cancel()
        await asyncio.gather(*closed, return_exceptions=True)
    finally:
        for writer in writers:
            writer.transport.abort()
    return found


async def forged_webhooks(site: Site, size: float) -> Outcome:
    """Webhooks without a signature, with a wrong one, with two, and that are no HTTP."""
    found = Outcome()
    async with aiohttp.ClientSession() as session:

        async def one(number: int) -> None:
            now = int(time.time())
            headers = [("Stripe-Signature", f"t={now},v1={'0' * 64}")] * (number % 3)
            async with session.post(f"http://{site.webhooks}/webhooks/stripe", data=b"{}", headers=headers) as answer:
                found.tried += 1
                found.refused += 400 <= answer.status < 500

        for first in range(0, int(1_000 * size), 10):
            await asyncio.gather(*(one(number) for number in range(first, first + 10)))
            await asyncio.sleep(0.05)
    return found


async def kafka_rights(site: Site, size: float) -> Outcome:
    """Users of Kafka write topics that are not theirs, and join groups that are not."""
    found = Outcome()
    ca = site.certificates["kafka"][2]

    def user(name: str) -> dict[str, Any]:
        return client(Cluster(site.kafka, KafkaSecurity("SCRAM-SHA-512", name, site.passwords[name], Path(ca))))

    names = ("ops", "redrive", "groups", "payments")[: max(1, int(4 * size))]
    for name in names:
        # Without a producer id, which a user that may write nothing does not get.
        producer = AIOKafkaProducer(**user(name), acks="all")
        await producer.start()
        try:
            for topic in ALL:
                if topic.writer == name or topic.message is None:
                    continue
                found.tried += 1
                try:
                    await producer.send_and_wait(topic.name, b"forged", key=b"k", partition=0)
                except TopicAuthorizationFailedError:
                    found.refused += 1
        finally:
            await producer.stop()
        for group in ("groupbuy.groups.sequencer", "groupbuy.payments.effects"):
            if name in group:
                continue
            found.tried += 1
            consumer = AIOKafkaConsumer(**user(name), group_id=group, enable_auto_commit=False)
            try:
                await consumer.start()
                tp = TopicPartition(ORDERS.name, 0)
                consumer.assign([tp])
                await consumer.commit({tp: 10**6})
            except (GroupAuthorizationFailedError, TopicAuthorizationFailedError):
                found.refused += 1
            finally:
                await consumer.stop()
    return found


@dataclass(frozen=True, slots=True)
class Attack:
    """One row of the table. `least` is the part of what was tried that must be refused."""

    run: Callable[[Site, float], Awaitable[Outcome]]
    least: float


ATTACKS: dict[str, Attack] = {
    one.run.__name__: one
    for one in (
        Attack(broken_items, 1.0),
        Attack(forged_tokens, 1.0),
        # The first ten batches have places.
        Attack(closed_groups, 0.7),
        Attack(long_lists, 0.3),
        Attack(pictures, 0.5),
        Attack(unknown_campaigns, 1.0),
        Attack(unfinished_messages, 1.0),
        Attack(unread_answers, 1.0),
        Attack(silent_connections, 1.0),
        Attack(reset_flood, 0.5),
        Attack(not_allowed, 1.0),
        Attack(garbage, 1.0),
        Attack(strangers, 1.0),
        Attack(half_webhooks, 1.0),
        Attack(forged_webhooks, 1.0),
        Attack(kafka_rights, 1.0),
    )
}
