"""A settlement that is stuck because the provider fails every call, and what the operators do about it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_AT_DEADLINE, Campaign, CreateCampaignRequest, Tier
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceStub
from groupbuy.orders.v1 import orders_pb2 as pb
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub
from groupbuy.payments.v1 import operator_pb2
from groupbuy.payments.v1.decisions_pb2 import OPERATION_CAPTURE

from tests.day.calls import retried
from tests.day.errors import DayFailed
from tests.day.operator import ALICE, Operators
from tests.day.provider import Provider

MEMBERS = 4
WINDOW_S = 12
SOON_S = 90.0


class StuckSettlement:
    """One group whose captures and refunds have no result."""

    def __init__(
        self, shop: grpc.aio.Channel, merchant: grpc.aio.Channel, operators: Operators, provider: Provider
    ) -> None:
        self._orders: Any = OrderServiceStub(shop)
        self._campaigns: Any = CampaignServiceStub(merchant)
        self._operators = operators
        self._provider = provider

    async def run(self) -> str:
        """Fails one member, releases one, and retries the others after the outage. Returns how the orders end.

        Raises DayFailed and TimeoutError.
        """
        placed = await self._fill()
        await self._until(placed, "CONFIRMED")
        await self._provider.behave(fail_before_per_mille=1_000)
        release, fail, *retry = [f"{one}/payment" for one in placed]
        stuck = await self._stuck({f"{one}/payment" for one in placed})
        reason = "the provider has an outage"
        await self._repair("FailMember", operator_pb2.FailMemberRequest(name=fail), reason)
        await self._repair("ReleaseMember", operator_pb2.ReleaseMemberRequest(name=release), reason)
        await self._provider.behave()
        for name in retry:
            again = operator_pb2.RetryCallRequest(name=name, operation=OPERATION_CAPTURE)
            # A timer may have retried the call already.
            await self._operators.repair(ALICE, "RetryCall", again, "the provider is back")
        final = await self._until(placed, "SETTLED", "DECLINED", "RELEASED", "CANCELLED")
        ends = Counter(final)
        if ends["SETTLED"] != MEMBERS - 2:
            raise DayFailed(f"the orders of the stuck settlement end {dict(ends)}")
        return f"{stuck} calls were stuck, orders end {dict(ends)}"

    async def _repair(self, method: str, request: Any, reason: str) -> None:
        """Makes a repair that has to be done. Raises DayFailed."""
        if not await self._operators.repair(ALICE, method, request, reason):
            raise DayFailed(f"{method} of {request.name} was refused")

    async def _fill(self) -> list[str]:
        campaign = Campaign(
            product="a kettle",
            currency="CNY",
            solo_price_minor=9_900,
            tiers=[Tier(members=2, unit_price_minor=8_900), Tier(members=MEMBERS, unit_price_minor=7_900)],
            capacity=MEMBERS * 2,
            window=Duration(seconds=WINDOW_S),
            hold_window=Duration(seconds=5),
            close_policy=CLOSE_POLICY_AT_DEADLINE,
        )
        request = CreateCampaignRequest(
            campaign=campaign, campaign_id=f"stuck-{uuid4().hex[:8]}", request_id=str(uuid4())
        )
        name = (await retried(self._campaigns.CreateCampaign, request)).name
        placed: list[str] = []
        group = ""
        for number in range(MEMBERS):
            order = pb.PlaceOrderRequest(
                campaign=name,
                group=group,
                customer=f"stuck-{number}",
                quantity=1,
                currency="CNY",
                max_unit_price_minor=9_900,
                # A wallet takes the first tier's price at once; the refund of the difference is stuck.
                payment_method="card_ok" if number else "wallet_ok",
                request_id=str(uuid4()),
            )
            answer = (await retried(self._orders.PlaceOrder, order)).order
            group = answer.group
            placed.append(answer.name)
        return placed

    async def _until(self, orders: list[str], *states: str) -> list[str]:
        """The states of the orders, once all are in one of `states`. Raises TimeoutError."""
        deadline = time.monotonic() + SOON_S
        while True:
            found = [
                pb.OrderState.Name(
                    (await retried(self._orders.GetOrder, pb.GetOrderRequest(name=name))).state
                ).removeprefix("ORDER_STATE_")
                for name in orders
            ]
            if set(found) <= set(states):
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"the orders are {found}, not {states}")
            await asyncio.sleep(0.2)

    async def _stuck(self, payments: set[str]) -> int:
        """The number of calls that wait, once those of all members do. Raises TimeoutError."""
        deadline = time.monotonic() + SOON_S
        while True:
            waiting = [
                one for one in await self._operators.issues(operator_pb2.ISSUE_KIND_CALL) if one.payment in payments
            ]
            if len({one.payment for one in waiting}) == len(payments):
                return len(waiting)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(waiting)} calls wait, not {len(payments)}")
            await asyncio.sleep(0.2)
