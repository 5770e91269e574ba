"""An invalid call is answered with its status and reason. Undecodable order facts go to the dead letters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest
from groupbuy.groups.v1.campaigns_pb2 import CreateCampaignRequest, Tier
from groupbuy.groups.v1.groups_pb2 import GetGroupRequest
from groupbuy.orders.v1.orders_pb2 import CancelOrderRequest, GetOrderRequest
from groupbuy.payments.v1.payments_pb2 import GetPaymentRequest
from grpc_status import rpc_status

from eventlog.core.partitioner import partition_of
from shared_kernel import topics
from tests.integration.shop import CALL_S, Shop, state
from tests.integration.test_once_only import reason_of
from tests.scenarios.facts import campaign, duration

NOBODY = f"groups/{uuid4()}"


def bad_campaign(**fields: Any) -> CreateCampaignRequest:
    offer = campaign(**{"capacity": 5, "window": duration(60_000), "hold_window": duration(10_000)} | fields)
    return CreateCampaignRequest(campaign=offer, request_id=str(uuid4()))


def fields_of(error: grpc.RpcError) -> set[str]:
    """Paths in a call's BadRequest."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type, unused-ignore]
    found: set[str] = set()
    for detail in status.details if status else ():
        bad = BadRequest()
        if detail.Unpack(bad):
            found |= {violation.field for violation in bad.field_violations}
    return found


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
CASES: dict[str, tuple[Callable[[Shop, str], object], grpc.StatusCode, str, str]] = {
    "an unknown campaign": (
        lambda s, c: s.orders.PlaceOrder(s.request("campaigns/no-such"), timeout=CALL_S),
        NOT_FOUND, "CAMPAIGN_NOT_FOUND", "",
    ),
    "tiers that are not monotonic": (
        lambda s, c: s.campaigns.CreateCampaign(
            bad_campaign(tiers=[Tier(members=5, unit_price_minor=8_900), Tier(members=2, unit_price_minor=7_900)]),
            timeout=CALL_S,
        ),
        INVALID, "TIERS_NOT_MONOTONIC", "campaign.tiers[1].members",
    ),
    "a negative price": (
        lambda s, c: s.campaigns.CreateCampaign(bad_campaign(solo_price_minor=-1), timeout=CALL_S),
        INVALID, "INVALID_FIELDS", "campaign.solo_price_minor",
    ),
    "a window longer than any hold": (
        lambda s, c: s.campaigns.CreateCampaign(bad_campaign(window=Duration(seconds=7 * 86_400)), timeout=CALL_S),
        INVALID, "WINDOW_TOO_LONG", "campaign.window",
    ),
    "another currency": (
        lambda s, c: s.orders.PlaceOrder(s.request(c, currency="USD"), timeout=CALL_S),
        INVALID, "CURRENCY_MISMATCH", "currency",
    ),
    "a megabyte of text": (
        lambda s, c: s.orders.PlaceOrder(s.request(c, customer="x" * 1_000_000), timeout=CALL_S),
        INVALID, "MESSAGE_TOO_LARGE", "",
    ),
    "no request id": (
        lambda s, c: s.orders.PlaceOrder(s.request(c, request_id=""), timeout=CALL_S),
        INVALID, "INVALID_FIELDS", "request_id",
    ),
    "no pieces": (
        lambda s, c: s.orders.PlaceOrder(s.request(c, quantity=0), timeout=CALL_S),
        INVALID, "INVALID_FIELDS", "quantity",
    ),
    "alone and in a group": (
        lambda s, c: s.orders.PlaceOrder(s.request(c, NOBODY, solo=True), timeout=CALL_S),
        INVALID, "INVALID_FIELDS", "",
    ),
    "no deadline": (
        lambda s, c: s.orders.PlaceOrder(s.request(c)),
        INVALID, "DEADLINE_REQUIRED", "",
    ),
    "an unknown group to join": (
        lambda s, c: s.orders.PlaceOrder(s.request(c, NOBODY), timeout=CALL_S),
        NOT_FOUND, "GROUP_NOT_FOUND", "",
    ),
    "an unknown group to read": (
        lambda s, c: s.groups.GetGroup(GetGroupRequest(name=NOBODY), timeout=CALL_S),
        NOT_FOUND, "GROUP_NOT_FOUND", "",
    ),
    "a bad name": (
        lambda s, c: s.groups.GetGroup(GetGroupRequest(name="group/1"), timeout=CALL_S),
        INVALID, "INVALID_FIELDS", "name",
    ),
    "an unknown order": (
        lambda s, c: s.orders.GetOrder(GetOrderRequest(name=f"{NOBODY}/orders/{uuid4()}"), timeout=CALL_S),
        NOT_FOUND, "ORDER_NOT_FOUND", "",
    ),
    "an unknown order to cancel": (
        lambda s, c: s.orders.CancelOrder(
            CancelOrderRequest(name=f"{NOBODY}/orders/{uuid4()}", request_id=str(uuid4())), timeout=CALL_S
        ),
        NOT_FOUND, "ORDER_NOT_FOUND", "",
    ),
    "an unknown payment": (
        lambda s, c: s.payments.GetPayment(
            GetPaymentRequest(name=f"{NOBODY}/orders/{uuid4()}/payment"), timeout=CALL_S
        ),
        NOT_FOUND, "PAYMENT_NOT_FOUND", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_bad_call_is_answered_with_its_reason(shop: Shop, case: str) -> None:
    call, code, reason, field = CASES[case]
    campaign = shop.campaign(window_s=2)
    with pytest.raises(grpc.RpcError) as refused:
        call(shop, campaign)
    assert refused.value.code() == code
    assert reason_of(refused.value) == reason
    if field:
        assert field in fields_of(refused.value)
    assert not any("Traceback" in shop.stack.stack.log(name) for name in ("orders", "groups", "payments"))


def test_a_full_group_refuses_with_an_order_and_a_reason(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2)
    orders = shop.full_group(campaign, 2)
    shop.wait_all(orders, "SETTLED")
    late = shop.place(campaign, orders[0].group)
    assert (state(late), late.reason) == ("REFUSED", "GROUP_COMPLETED")
    assert shop.holds([late]) == []


def test_a_link_to_a_group_of_another_campaign_is_refused(shop: Shop) -> None:
    leader = shop.place(shop.campaign(window_s=2))
    with pytest.raises(grpc.RpcError) as refused:
        shop.orders.PlaceOrder(shop.request(shop.campaign(), leader.group), timeout=CALL_S)
    assert reason_of(refused.value) == "CAMPAIGN_MISMATCH"


def test_undecodable_facts_are_dead_lettered_and_the_service_continues(shop: Shop) -> None:
    group, order = str(uuid4()), str(uuid4())
    headers = [("ce_subject", f"groups/{group}/orders/{order}".encode())]
    offset, partition = asyncio.run(_write(shop.stack.kafka, group, b"\xff\xff\xff", headers))
    for service in ("groups", "orders"):
        letter = asyncio.run(_dead_letter(shop.stack.kafka, topics.dlq_name(topics.ORDERS, service), partition, offset))
        assert letter.value == b"\xff\xff\xff"
        assert dict(letter.headers)["dlq-origin-topic"] == b"orders.order.v1"
        assert dict(letter.headers)["dlq-error"]
    name = f"groups/{group}/orders/{order}"
    deadline = time.monotonic() + 20
    while True:
        try:
            found = shop.orders.GetOrder(GetOrderRequest(name=name), timeout=CALL_S)
            break
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
            assert time.monotonic() < deadline
    assert (state(found), found.reason) == ("REFUSED", "UNREADABLE")
    shop.wait(shop.place(shop.campaign(), solo=True), "SETTLED")


async def _write(kafka: str, key: str, value: bytes, headers: list[tuple[str, bytes]]) -> tuple[int, int]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        partition = partition_of(key, 4)
        done = await producer.send_and_wait(
            topics.ORDERS.name, value, key=key.encode(), partition=partition, headers=headers
        )
        return done.offset, partition
    finally:
        await producer.stop()


async def _dead_letter(kafka: str, topic: str, partition: int, origin: int) -> Any:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        tp = TopicPartition(topic, partition)
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        async with asyncio.timeout(30):
            while True:
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, []):
                    if dict(record.headers)["dlq-origin-offset"] == str(origin).encode():
                        return record
    finally:
        await consumer.stop()
