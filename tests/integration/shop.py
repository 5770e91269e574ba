"""Campaigns and orders of one test, over gRPC, with retries of the calls that can be retried."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, ClosePolicy, CreateCampaignRequest, Tier
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceStub
from groupbuy.groups.v1.groups_pb2 import CancelGroupRequest, GetGroupRequest, Group, ListGroupsRequest
from groupbuy.groups.v1.groups_pb2_grpc import GroupServiceStub
from groupbuy.orders.v1 import orders_pb2 as pb
from groupbuy.orders.v1.orders_pb2 import Order, OrderState
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub
from groupbuy.payments.v1.payments_pb2_grpc import PaymentServiceStub
from groupbuy.simprovider.v1.simprovider_pb2 import (
    Behaviour,
    ConfigureRequest,
    ExportStatementRequest,
    StatementEntry,
)
from groupbuy.simprovider.v1.simprovider_pb2_grpc import SimProviderServiceStub

from eventlog.processors.base import SESSION_S
from groupbuy_testing.running import RunningStack

T = TypeVar("T")

CALL_S = 10.0
LADDER = ((2, 8_900), (5, 7_900), (10, 6_900))
FINAL = frozenset({"SETTLED", "REFUSED", "DECLINED", "LAPSED", "CANCELLED", "RELEASED", "REFUNDED"})


def state(order: Order) -> str:
    """The state's short name, for instance `CONFIRMED`."""
    return OrderState.Name(order.state).removeprefix("ORDER_STATE_")


class Shop:
    """The calls of one test, with campaigns of its own."""

    def __init__(self, stack: RunningStack) -> None:
        self.stack = stack
        self.orders = OrderServiceStub(stack.orders)
        self.groups = GroupServiceStub(stack.groups)
        self.campaigns = CampaignServiceStub(stack.groups)
        self.payments = PaymentServiceStub(stack.payments)
        self.provider = SimProviderServiceStub(stack.provider)
        self.placed: list[tuple[str, str]] = []

    def campaign(
        self,
        *,
        capacity: int = 10,
        tiers: Sequence[tuple[int, int]] = LADDER,
        window_s: float = 30.0,
        hold_s: float = 15.0,
        at_deadline: bool = False,
        waitlist: bool = False,
        leader_discount: int = 0,
        currency: str = "CNY",
    ) -> str:
        """Creates a campaign and returns its name."""
        policy = ClosePolicy.CLOSE_POLICY_AT_DEADLINE if at_deadline else ClosePolicy.CLOSE_POLICY_WHEN_FULL
        offer = Campaign(
            product="mug",
            currency=currency,
            solo_price_minor=9_900,
            tiers=[Tier(members=members, unit_price_minor=price) for members, price in tiers if members <= capacity],
            capacity=capacity,
            window=Duration(seconds=int(window_s), nanos=int(window_s % 1 * 1e9)),
            hold_window=Duration(seconds=int(hold_s), nanos=int(hold_s % 1 * 1e9)),
            close_policy=policy,
            waitlist=waitlist,
            leader_discount_minor=leader_discount,
        )
        request = CreateCampaignRequest(campaign=offer, campaign_id=f"t-{uuid4().hex[:12]}", request_id=str(uuid4()))
        return retried(lambda: self.campaigns.CreateCampaign(request, timeout=CALL_S)).name

    def request(self, campaign: str, group: str = "", **fields: Any) -> pb.PlaceOrderRequest:
        """A valid order request."""
        values: dict[str, Any] = {
            "customer": f"c-{uuid4().hex[:8]}",
            "quantity": 1,
            "currency": "CNY",
            "max_unit_price_minor": 9_900,
            "payment_method": "card_ok",
            "request_id": str(uuid4()),
        }
        values |= fields
        return pb.PlaceOrderRequest(campaign=campaign, group=group, **values)

    def place(self, campaign: str, group: str = "", **fields: Any) -> Order:
        """Places an order. Without a response, the call is retried with the same request id."""
        request = self.request(campaign, group, **fields)
        order = retried(lambda: self.orders.PlaceOrder(request, timeout=CALL_S)).order
        self.placed.append((order.group.removeprefix("groups/"), order.name.rsplit("/", 1)[1]))
        return order

    def place_all(self, requests: Sequence[pb.PlaceOrderRequest]) -> list[Order]:
        """Places orders concurrently."""
        with ThreadPoolExecutor(len(requests)) as pool:
            answers = pool.map(lambda one: retried(lambda: self.orders.PlaceOrder(one, timeout=CALL_S)).order, requests)
            return list(answers)

    def get(self, order: Order | str) -> Order:
        """Reads an order."""
        name = order if isinstance(order, str) else order.name
        return retried(lambda: self.orders.GetOrder(pb.GetOrderRequest(name=name), timeout=CALL_S))

    def wait(self, order: Order, *states: str, seconds: float = 40.0) -> Order:
        """Waits until an order is in one of the states. Fails at once if it reaches another final state."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.get(order)
            if state(found) in states:
                return found
            assert state(found) not in FINAL, f"{state(found)} {found.reason}, not {states}"
            assert time.monotonic() < deadline, f"{state(found)} after {seconds:g} s, not {states}"
            pause(0.05)

    def wait_all(self, orders: Sequence[Order], *states: str, seconds: float = 40.0) -> list[Order]:
        """Waits for each order."""
        return [self.wait(order, *states, seconds=seconds) for order in orders]

    def cancel(self, order: Order) -> Order:
        """Cancels an order. Raises RpcError if that is refused."""
        return self.orders.CancelOrder(pb.CancelOrderRequest(name=order.name, request_id=str(uuid4())), timeout=CALL_S)

    def group(self, order: Order) -> Group:
        """The group of an order."""
        return retried(lambda: self.groups.GetGroup(GetGroupRequest(name=order.group), timeout=CALL_S))

    def cancel_open_groups(self, campaign: str) -> None:
        """Cancels the open groups of a test, so that no later check waits for their deadlines."""
        while groups := self.groups.ListGroups(ListGroupsRequest(campaign=campaign), timeout=CALL_S).groups:
            for group in groups:
                request = CancelGroupRequest(name=group.name, request_id=str(uuid4()))
                retried(partial(self.groups.CancelGroup, request, timeout=CALL_S))

    def full_group(self, campaign: str, size: int, **fields: Any) -> list[Order]:
        """A group of a leader and friends, all with a seat."""
        leader = self.place(campaign, **fields)
        friends = self.place_all([self.request(campaign, leader.group, **fields) for _ in range(size - 1)])
        return [leader, *friends]

    def holds(self, orders: Sequence[Order]) -> list[StatementEntry]:
        """The provider's statement entries of these orders."""
        ids = {order.name.rsplit("/", 1)[1] for order in orders}
        return [entry for entry in self.statement() if entry.order in ids]

    def statement(self) -> list[StatementEntry]:
        """The provider's statement."""
        return list(self.provider.ExportStatement(ExportStatementRequest()))

    def until_session_is_over(self) -> None:
        """Waits a little longer than the broker waits for a frozen member."""
        pause(SESSION_S + 2)

    def behave(self, **behaviour: Any) -> None:
        """Configures the provider's injected faults; without arguments, none."""
        self.provider.Configure(ConfigureRequest(behaviour=Behaviour(**behaviour)), timeout=CALL_S)


def pause(seconds: float) -> None:
    """Sleeps between two checks of a condition."""
    threading.Event().wait(seconds)


def until(check: Callable[[], bool], seconds: float = 40.0) -> None:
    """Waits until `check` returns true."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        pause(0.05)


def retried(call: Callable[[], T], seconds: float = 60.0) -> T:
    """Retries a call while it fails with UNAVAILABLE or DEADLINE_EXCEEDED."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            transient = error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
            if not transient or time.monotonic() > deadline:
                raise
        pause(0.1)
