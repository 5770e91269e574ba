"""Attacks on authentication and authorisation, of gRPC and of Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from chassis.rpc.client_config import channel_options
from eventlog.broker.security import Cluster, KafkaSecurity, client
from groupbuy_client.transport import expecting
from shared_kernel.topics import ALL, ORDERS
from tests.attack.outcome import CAMPAIGN, CHANNELZ, GROUP, HEALTH, ORDER, PAYMENT, Outcome, at_rate, raw
from tests.attack.site import SERVICES, Site


async def not_allowed(site: Site, size: float) -> Outcome:
    """Calls of all other methods by the identity for webhooks."""
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
            found = await at_rate(calls * int(150 * size), 200.0)
        finally:
            await channel.close(grace=None)
        outcome.join(found)
    return outcome


async def garbage(site: Site, size: float) -> Outcome:
    """Invalid bytes to operational methods and to methods that do not exist."""
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
            found = await at_rate(calls * int(50 * size), 100.0)
        finally:
            await channel.close(grace=None)
        outcome.join(found)
    return outcome


async def strangers(site: Site, size: float) -> Outcome:
    """Calls in plaintext, and calls without a certificate."""
    outcome = Outcome()
    for service in SERVICES:
        options = channel_options.options(retries=False)
        plain = grpc.aio.insecure_channel(site.endpoints[service], options=options)
        nobody = grpc.ssl_channel_credentials(site.authority)
        named = (*options, *expecting(service, "groupbuy.internal"))
        unnamed = grpc.aio.secure_channel(site.endpoints[service], nobody, options=named)
        for channel in (plain, unnamed):
            try:
                found = await at_rate([raw(channel, f"{HEALTH}Check", b"", 2.0)] * int(20 * size), 20.0)
            finally:
                await channel.close(grace=None)
            outcome.join(found)
    return outcome


async def kafka_rights(site: Site, size: float) -> Outcome:
    """Users of Kafka write to topics and join consumer groups of others."""
    found = Outcome()
    ca = site.certificates["kafka"][2]

    def user(name: str) -> dict[str, Any]:
        return client(Cluster(site.kafka, KafkaSecurity("SCRAM-SHA-512", name, site.passwords[name], Path(ca))))

    names = ("ops", "redrive", "groups", "payments")[: max(1, int(4 * size))]
    for name in names:
        # Not idempotent: a user without write access gets no producer id.
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
