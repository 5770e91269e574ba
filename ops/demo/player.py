"""Plays an evening over gRPC as a shop's backend does: it sends every order at its time, and retries it unchanged.

Errors of a service that restarts are retried. Other unexpected errors are collected, and fail the demo. Uses only the
API, no topics.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID, uuid5

import grpc
import stamina
import stamina.instrumentation
from google.protobuf.message import Message
from groupbuy.groups.v1.campaigns_pb2 import CreateCampaignRequest
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceStub
from groupbuy.orders.v1.orders_pb2 import (
    WAIT_SEAT_DECIDED,
    CancelOrderRequest,
    Order,
    OrderState,
    PlaceOrderRequest,
)
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub

from ops.demo.offers import Offer
from ops.demo.plan import Evening, Party, Role, Visit

T = TypeVar("T")

CALL_TIMEOUT_S = 8.0
RETRY_FOR_S = 60.0
#: Status codes of a service that restarts or waits for its broker. The same request is sent again.
TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        # gRPC rejects calls with it far above a service's capacity.
        grpc.StatusCode.CANCELLED,
    }
)


@dataclass(slots=True)
class Tally:
    """The counts of the shop."""

    placed: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    duplicates: int = 0
    cancelled: int = 0
    too_late_to_cancel: int = 0
    #: (group, order) pairs that the API has acknowledged.
    acknowledged: set[tuple[str, str]] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


class Player:
    """The shop: one channel per service, one task per order."""

    def __init__(
        self,
        orders: grpc.aio.Channel,
        groups: grpc.aio.Channel,
        run: UUID,
        tally: Tally,
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        self._orders = OrderServiceStub(orders)
        self._campaigns = CampaignServiceStub(groups)
        #: Makes the ids of this run unique, also at a broker with an earlier run of the same seed.
        self._run = run
        self._tally = tally
        self._retry_for_s = retry_for_s
        # Retries are counted here. Log lines would break the live view.
        stamina.instrumentation.set_on_retry_hooks([])

    def campaign_id(self, offer: Offer) -> str:
        """The id of an offer's campaign in this run."""
        return f"{offer.id}-{self._run.hex[:6]}"

    async def open_shop(self, evening: Evening) -> None:
        """Creates the campaigns. Raises grpc.aio.AioRpcError if one is refused."""
        for offer in evening.offers:
            request = CreateCampaignRequest(
                campaign=offer.campaign(),
                campaign_id=self.campaign_id(offer),
                request_id=str(uuid5(self._run, offer.id)),
            )
            await self._retried(self._campaigns.CreateCampaign, request)

    async def play(self, evening: Evening) -> None:
        """Plays the evening. Returns once every order has its response."""
        started = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for party in evening.parties:
                tasks.create_task(self._party(party, started))

    async def _party(self, party: Party, started: float) -> None:
        leader, *joiners = party.visits
        opened = await self._visit(party, leader, "", started)
        if opened is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._cancel_if_planned(leader, opened, started))
            for visit in joiners:
                tasks.create_task(self._join(party, visit, opened.group, started))

    async def _join(self, party: Party, visit: Visit, group: str, started: float) -> None:
        order = await self._visit(party, visit, group, started)
        if order is not None:
            await self._cancel_if_planned(visit, order, started)

    async def _visit(self, party: Party, visit: Visit, group: str, started: float) -> Order | None:
        """Places an order at its time. Returns None after an unexpected error."""
        await _until(started + visit.at_s)
        offer = party.offer
        solo = visit.role is Role.SOLO
        request = PlaceOrderRequest(
            customer=visit.customer,
            campaign=f"campaigns/{self.campaign_id(offer)}",
            group=group,
            solo=solo,
            quantity=visit.quantity,
            currency=offer.currency,
            max_unit_price_minor=offer.solo_price_minor if solo else offer.entry_price_minor,
            payment_method=visit.payment_method,
            request_id=str(uuid5(self._run, visit.request_id)),
            wait=WAIT_SEAT_DECIDED,
        )
        self._tally.placed += 1
        self._tally.duplicates += visit.copies - 1
        answers = await asyncio.gather(*(self._place(request) for _ in range(visit.copies)))
        orders = [order for order in answers if order is not None]
        if len(orders) < visit.copies:
            return None
        if len({order.name for order in orders}) > 1:
            self._tally.errors.append(f"one request, sent {visit.copies} times, created several orders: {orders}")
        order = orders[0]
        self._tally.answers[OrderState.Name(order.state).removeprefix("ORDER_STATE_")] += 1
        _, group_id, _, order_id = order.name.split("/")
        self._tally.acknowledged.add((group_id, order_id))
        return order

    async def _place(self, request: PlaceOrderRequest) -> Order | None:
        try:
            return (await self._retried(self._orders.PlaceOrder, request)).order
        except grpc.aio.AioRpcError as error:
            self._unexpected("PlaceOrder", error)
            return None

    async def _cancel_if_planned(self, visit: Visit, order: Order, started: float) -> None:
        if visit.cancels_at_s is None:
            return
        await _until(started + visit.cancels_at_s)
        request = CancelOrderRequest(
            name=order.name, reason="changed my mind", request_id=str(uuid5(self._run, f"leave {visit.request_id}"))
        )
        try:
            await self._retried(self._orders.CancelOrder, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                # Expected: the group has closed, or the order is final.
                self._tally.too_late_to_cancel += 1
            else:
                self._unexpected("CancelOrder", error)
        else:
            self._tally.cancelled += 1

    async def _retried(self, call: Callable[..., Awaitable[T]], request: Message) -> T:
        """Makes a call, and retries it unchanged while the service is unavailable."""
        async for attempt in stamina.retry_context(
            on=_is_transient, attempts=None, timeout=self._retry_for_s, wait_initial=0.1, wait_max=1.0, wait_jitter=0.2
        ):
            if attempt.num > 1:
                self._tally.retries += 1
            with attempt:
                return await call(request, timeout=CALL_TIMEOUT_S)
        raise AssertionError("unreachable: stamina returns or raises")

    def _unexpected(self, what: str, error: grpc.aio.AioRpcError) -> None:
        code = error.code()
        logging.getLogger(__name__).debug("%s: %s", what, error)
        self._tally.errors.append(f"{what}: {code.name if code else 'no status'}: {error.details()}")


def _is_transient(error: Exception) -> bool:
    return isinstance(error, grpc.aio.AioRpcError) and error.code() in TRANSIENT


async def _until(time_s: float) -> None:
    await asyncio.sleep(max(0.0, time_s - asyncio.get_running_loop().time()))
