"""Goal: what one service has shown, the next one shows too, if the caller passes the consistency token on.

Method: groups settle while a thread each watches them. As soon as a watch says settled, its orders are read with the
token of that message. Without the token, the order projection may still be behind the groups service.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from groupbuy.groups.v1.groups_pb2 import Group, WatchGroupRequest
from groupbuy.orders.v1.orders_pb2 import GetOrderRequest, ListOrdersRequest, Order, WatchOrderRequest
from groupbuy.payments.v1.payments_pb2 import GetPaymentRequest

from shared_kernel.consistency_tokens import of_group
from tests.integration.shop import CALL_S, state

if TYPE_CHECKING:
    from tests.integration.shop import Shop

GROUPS = 12


def settled(shop: Shop, campaign: str) -> tuple[Group, list[Order]]:
    """Lets two orders complete a group. Returns the last message of its watch, and the orders as placed."""
    leader = shop.place(campaign)
    watch = shop.groups.WatchGroup(WatchGroupRequest(name=leader.group), timeout=60)
    orders = [leader, shop.place(campaign, leader.group)]
    *_, last = watch
    assert last.settled
    return last, orders


def test_orders_of_a_settled_group_are_settled(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2)

    def shown(_: int) -> list[str]:
        group, orders = settled(shop, campaign)
        token, names = group.consistency_token, [order.name for order in orders]
        read = [
            shop.orders.GetOrder(GetOrderRequest(name=name, consistency_token=token), timeout=CALL_S) for name in names
        ]
        first = next(
            iter(shop.orders.WatchOrder(WatchOrderRequest(name=names[0], consistency_token=token), timeout=CALL_S))
        )
        listed = shop.orders.ListOrders(
            ListOrdersRequest(parent=group.name, consistency_token=token), timeout=CALL_S
        ).orders
        return [state(order) for order in (*read, first, *listed)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(shown, range(GROUPS))) == [["SETTLED"] * 5] * GROUPS


def test_an_order_shows_the_money_of_its_payment_and_is_found_by_its_id(shop: Shop) -> None:
    _, orders = settled(shop, shop.campaign(capacity=2))
    for order in orders:
        payment = shop.payments.GetPayment(GetPaymentRequest(name=f"{order.name}/payment"), timeout=CALL_S)
        alone = f"groups/-/orders/{order.name.rsplit('/', 1)[1]}"
        request = GetOrderRequest(name=alone, consistency_token=payment.consistency_token)
        found = shop.orders.GetOrder(request, timeout=CALL_S)
        assert (found.name, found.captured_minor) == (order.name, payment.captured_minor)
        assert found.captured_minor == 8_900


def test_a_version_that_no_decision_has_is_refused(shop: Shop) -> None:
    group, orders = settled(shop, shop.campaign(capacity=2))
    forged = of_group(group.name.removeprefix("groups/"), group.version + 1)
    with pytest.raises(grpc.RpcError) as caught:
        shop.orders.GetOrder(GetOrderRequest(name=orders[0].name, consistency_token=forged), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "consistency_token: names no decision of the log"
