"""Places one order: refuses plain mistakes, states the fact, and waits for what was decided.

Its steps are separate, so that many orders can be looked at and stated together. Must never decide whether there is a
seat, nor at what price: that is for the group's decider alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.orders.v1.orders_pb2 import (
    WAIT_ACCEPTED,
    WAIT_FINAL,
    WAIT_SEAT_DECIDED,
    WAIT_UNSPECIFIED,
    PlaceOrderRequest,
    PlaceOrderResponse,
    PlaceOrderResult,
    Wait,
)

from chassis.admission.capacity import CapacityLimiter
from chassis.routing.partition_router import LocalRouter
from chassis.routing.peer_calls import Context
from chassis.rpc.call_deadline import CallDeadline
from eventlog.core.errors import BrokerUnavailable
from eventlog.producing.record_accumulator import Position, Record
from services.orders.api import errors as refusals
from services.orders.api.consistency_tokens import Token, encode
from services.orders.api.event_publisher import OrderEventPublisher
from services.orders.api.links import Invitations
from services.orders.api.mapping import show_placed
from services.orders.api.parsed_order import ParsedOrder, parse_order
from services.orders.api.ports import Campaigns
from services.orders.api.reading import OrderSnapshot, Reader
from services.orders.domain.fold import OrderView
from services.orders.domain.model import GroupOrders

#: Single orders that wait for their groups to close in one process, and those of one identity.
MAX_CLOSING = 1_000
SHARE_CLOSING = 500
#: Orders that wait for a campaign or a group that is not known here, and those of one identity: the topic of campaigns
#: is read to its end first, and a group may take a second to be seen.
MAX_UNKNOWN = 2_000
SHARE_UNKNOWN = 1_000

#: What PlaceOrder waits for.
WAITS: Mapping[Wait.ValueType, Callable[[OrderView], bool]] = {
    WAIT_UNSPECIFIED: lambda order: order.decided,
    WAIT_SEAT_DECIDED: lambda order: order.decided,
    WAIT_FINAL: lambda order: order.final,
}


class PlaceOrderHandler:
    """The way of an order into the log and back."""

    def __init__(self, reader: Reader, campaigns: Campaigns, facts: OrderEventPublisher, links: Invitations) -> None:
        self._reader = reader
        self._campaigns = campaigns
        self._facts = facts
        self._links = links
        self._closing = CapacityLimiter(MAX_CLOSING, SHARE_CLOSING)
        self._unknown = CapacityLimiter(MAX_UNKNOWN, SHARE_UNKNOWN)

    async def place_there(
        self, request: PlaceOrderRequest, replicas: LocalRouter, context: Context
    ) -> PlaceOrderResponse:
        """Places an order and waits as asked, wherever the order's partition is. The same request again answers with
        the same order."""
        asked = parse_order(request)
        if request.wait != WAIT_FINAL:
            return await self.place_asked(asked, replicas, context)
        with self._closing.slot("wait for their groups to close"):
            return await self.place_asked(asked, replicas, context)

    async def place_asked(self, asked: ParsedOrder, replicas: LocalRouter, context: Context) -> PlaceOrderResponse:
        """As `place_there`, of a request that was looked at."""

        async def here() -> PlaceOrderResponse:
            return await self.place(asked, CallDeadline(context))

        return await replicas.call_owner("PlaceOrder", asked.name.group, asked.request, context, here)

    async def place(self, asked: ParsedOrder, deadline: CallDeadline) -> PlaceOrderResponse:
        """As `place_asked`, in this process. Raises NotReady where the partition is not here."""
        seen = self.known(asked)
        if seen is not None:
            token = self._reader.here(asked.name)
            if asked.request.wait != WAIT_ACCEPTED:
                return await self.decided(asked, token, deadline, fresh=False)
            return _answer(seen, token)
        if not self.check_now(asked):
            with self._unknown.slot("wait for campaigns and groups that are not known here"):
                await self._check(asked, deadline)
        position = await self._facts.append(self.fact(asked), deadline)
        seen = self.stated(asked, position)
        if asked.request.wait != WAIT_ACCEPTED:
            return await self.decided(asked, position, deadline, fresh=True)
        made = PlaceOrderResponse()
        accept(made, asked, position, seen)
        return made

    def known(self, asked: ParsedOrder) -> OrderSnapshot | None:
        """The order if it was placed before. Raises ApiError REQUEST_ID_REUSED where it is another's, and NotReady."""
        seen = self._reader.find(asked.name)
        if seen is not None:
            _same_request(seen, asked.digest)
        return seen

    def fact(self, asked: ParsedOrder) -> Record:
        """What a checked request states."""
        return self._facts.placed(asked, self._links.of(asked.request))

    def stated(self, asked: ParsedOrder, position: Position) -> OrderSnapshot | None:
        """Notes that an order stands in the log. What is known of it already; raises as `known`."""
        self._reader.wrote(position)
        return self.known(asked)

    async def decided(
        self, asked: ParsedOrder, token: Token | Position, deadline: CallDeadline, *, fresh: bool
    ) -> PlaceOrderResponse:
        """The answer once there is what the caller waits for. `fresh`: its fact may not be folded yet."""
        enough = WAITS[asked.request.wait]
        # A decision may be read before the fact it is about; with the fact the answer is whole.
        seen = await self._reader.when(
            asked.name, lambda order: enough(order) and (order.placed or not fresh), deadline, token
        )
        # Two requests with one id may have been under way at once: the log says whose the order is.
        _same_request(seen, asked.digest)
        return _answer(seen, token)

    # Plain mistakes -----------------------------------------------------------------------------------------------

    def check_now(self, asked: ParsedOrder) -> bool:
        """Refuses what is plainly a mistake. False: that can't be told without waiting. Raises ApiError, NotReady."""
        self._links.check(asked.request)
        campaign = self._campaigns.find(asked.campaign)
        if campaign is None:
            return False
        group = None
        if not asked.opens:
            group = self._reader.opened_now(asked.name.group)
            if group is None:
                return False
        _judge(asked, campaign, group)
        return True

    async def _check(self, asked: ParsedOrder, deadline: CallDeadline) -> None:
        campaign = await self._campaign(asked.campaign, deadline)
        group = None
        if not asked.opens:
            group = await self._reader.opened(asked.name.group, deadline)
            if group is None:
                raise refusals.group_not_found(asked.name.group)
        _judge(asked, campaign, group)

    async def _campaign(self, wanted: str, deadline: CallDeadline) -> Campaign:
        campaign = self._campaigns.find(wanted)
        if campaign is None:
            try:
                async with asyncio.timeout(deadline.left_s()):
                    campaign = await self._campaigns.get_latest(wanted)
            except TimeoutError:
                raise BrokerUnavailable("the campaigns' topic could not be read to its end in time") from None
        if campaign is None:
            raise refusals.campaign_not_found(wanted)
        return campaign


def _judge(asked: ParsedOrder, campaign: Campaign, group: GroupOrders | None) -> None:
    """Raises ApiError for what is wrong with an order, given its campaign and the group that it joins, if any."""
    currency = campaign.currency
    if group is None:
        if campaign.archived:
            raise refusals.campaign_archived(asked.campaign)
    else:
        if group.campaign != asked.campaign:
            raise refusals.campaign_mismatch(asked.campaign, group.campaign)
        # The group's frozen terms count, not the campaign as it is now.
        currency = group.currency or currency
    shown = asked.request.currency
    if shown != currency:
        raise refusals.currency_mismatch(shown, currency)


def accept(
    made: PlaceOrderResponse | PlaceOrderResult, asked: ParsedOrder, position: Position, seen: OrderSnapshot | None
) -> None:
    """Fills in the answer about an order that stands in the log and waits for nothing else; `seen`, where it has been
    read there already."""
    if seen is None:
        show_placed(made.order, asked, position.timestamp_ms)
    else:
        seen.show(made.order)
    made.consistency_token = encode(position)


def _answer(seen: OrderSnapshot, token: Token | Position) -> PlaceOrderResponse:
    answer = PlaceOrderResponse(consistency_token=encode(token))
    seen.show(answer.order)
    return answer


def _same_request(seen: OrderSnapshot, digest: bytes) -> None:
    """Raises ApiError where the request id stands for another payload."""
    if seen.view.request_sha256 and seen.view.request_sha256 != digest:
        raise refusals.request_id_reused(seen.name)
