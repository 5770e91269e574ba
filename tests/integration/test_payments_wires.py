"""Orders paid by Stripe's and WeChat Pay's protocols against a running system, from PlaceOrder to settled and refunded.

The requests use Stripe's SDK and signed calls, and notifications arrive over HTTP. Each test ends with the audit (see
conftest).
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from groupbuy.orders.v1.orders_pb2 import Order
from groupbuy.payments.v1 import inbox_pb2 as inbox
from groupbuy.payments.v1.decisions_pb2 import OPERATION_SALE, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome
from groupbuy.payments.v1.payments_pb2 import (
    PAYMENT_STATE_PARTLY_REFUNDED,
    REFUND_STATE_SUCCEEDED,
    GetPaymentRequest,
    Payment,
    RefundPaymentRequest,
)
from groupbuy.simprovider.v1.simprovider_pb2 import ConfirmRequest, StatementEntry

from ops.log.reader import Reader
from services.payments.providers.wechat.references import trade_number
from shared_kernel.topics import PAYMENT_INBOX
from tests.integration.shop import CALL_S, Shop, retried, until
from tests.waiting import wait_for_async

STRIPE, WECHAT = "stripe_pm_card_ok", "wallet_wechat_o_ok"
#: Payment method -> its protocol's name in the statement, and the prefix of its holds.
WIRES = {STRIPE: ("stripe", "pi_"), WECHAT: ("wechat", "")}


def payment_of(shop: Shop, order: Order) -> Payment:
    request = GetPaymentRequest(name=f"{order.name}/payment")
    return retried(lambda: shop.payments.GetPayment(request, timeout=CALL_S))


def id_of(order: Order) -> str:
    return order.name.rsplit("/", 1)[1]


def pair(shop: Shop, method: str, **campaign: Any) -> tuple[Order, Order]:
    """A leader who pays by card, and a friend who pays by `method`."""
    name = shop.campaign(capacity=2, tiers=((2, 8_900),), **campaign)
    leader = shop.place(name)
    return leader, shop.place(name, leader.group, payment_method=method)


def notifications_of(shop: Shop, order: str, result: str) -> list[ProviderOutcome]:
    """The notifications of an order with such a result in the payment inbox."""
    found: list[ProviderOutcome] = []

    def take(_topic: str, records: list[Any]) -> None:
        for record in records:
            outcome = PaymentInput.FromString(record.value).outcome
            if outcome.order == order and outcome.origin == inbox.OUTCOME_ORIGIN_NOTIFICATION:
                found.append(outcome)

    async def read() -> None:
        async with Reader(shop.stack.kafka, [PAYMENT_INBOX.name]) as reader:

            async def arrived() -> bool:
                await reader.read_to_end(take)
                return any(outcome.WhichOneof("result") == result for outcome in found)

            await wait_for_async(arrived, seconds=20)

    asyncio.run(read())
    return found


def statement(shop: Shop, order: Order) -> StatementEntry:
    (entry,) = shop.holds([order])
    return entry


@pytest.mark.parametrize("method", [STRIPE, WECHAT])
def test_an_order_is_placed_settled_and_refunded(shop: Shop, method: str) -> None:
    campaign = shop.campaign(capacity=5)
    orders = shop.full_group(campaign, 5, payment_method=method)
    assert {order.captured_minor for order in shop.wait_all(orders, "SETTLED")} == {7_900}
    wire, prefix = WIRES[method]
    entry = statement(shop, orders[0])
    assert (entry.wire, entry.hold[: len(prefix)]) == (wire, prefix)
    assert entry.hold == payment_of(shop, orders[0]).hold
    assert entry.captured_minor - entry.refunded_minor == 7_900

    request = RefundPaymentRequest(
        name=f"{orders[0].name}/payment", request_id=str(uuid4()), amount_minor=900, currency="CNY"
    )
    retried(lambda: shop.payments.RefundPayment(request, timeout=CALL_S))
    until(lambda: payment_of(shop, orders[0]).state == PAYMENT_STATE_PARTLY_REFUNDED)
    again = retried(lambda: shop.payments.RefundPayment(request, timeout=CALL_S))
    assert (again.state, again.amount_minor) == (REFUND_STATE_SUCCEEDED, 900)
    entry = statement(shop, orders[0])
    assert entry.captured_minor - entry.refunded_minor == 7_000
    shop.wait(orders[0], "REFUNDED", "SETTLED")


def test_an_expired_group_gets_its_funds_back_by_every_protocol(shop: Shop) -> None:
    campaign = shop.campaign(tiers=((3, 8_900), (5, 7_900)), capacity=5, window_s=2)
    leader = shop.place(campaign, payment_method=STRIPE)
    orders = [leader, shop.place(campaign, leader.group, payment_method=WECHAT)]
    shop.wait_all(orders, "RELEASED")

    def kept() -> int:
        return sum(entry.open_minor + entry.captured_minor - entry.refunded_minor for entry in shop.holds(orders))

    assert len(shop.holds(orders)) == 2
    # An order ends with its group's decision; the money follows.
    until(lambda: kept() == 0)


def test_a_decline_by_any_protocol_costs_nothing(shop: Shop) -> None:
    campaign = shop.campaign()
    methods = ("stripe_pm_card_declined", "wallet_wechat_o_declined")
    orders = [shop.place(campaign, solo=True, payment_method=method) for method in methods]
    assert all(order.reason for order in shop.wait_all(orders, "DECLINED"))
    assert shop.holds(orders) == []


@pytest.mark.parametrize("method", ["stripe_pm_card_action", "wallet_wechat_o_action"])
def test_a_confirmation_by_the_shopper_arrives_as_a_notification(shop: Shop, method: str) -> None:
    leader, friend = pair(shop, method, window_s=40, hold_s=30)
    until(lambda: bool(shop.get(friend).action_url))
    order = id_of(friend)
    sale = ProviderCall(order=order, operation=OPERATION_SALE, attempt=1)
    key = trade_number(sale) if method.startswith("wallet_") else f"{order}:authorise:1"
    shop.provider.Confirm(ConfirmRequest(key=key), timeout=CALL_S)
    assert notifications_of(shop, order, "authorised")
    shop.wait_all([leader, friend], "SETTLED")


def test_a_duplicate_late_notification_counts_once(shop: Shop) -> None:
    shop.behave(notify_own=True, notify_twice_per_mille=1_000, notify_late_per_mille=500, notify_late_ms=1_500)
    orders = pair(shop, "card_ok")
    shop.wait_all(orders, "SETTLED")
    for order in orders:
        assert notifications_of(shop, id_of(order), "authorised")
        assert statement(shop, order).captures == 1
