"""Places one order: refuses plain mistakes, states the fact, and waits for what was decided.

Its steps are separate, so that many orders can be looked at and stated together. Must never decide whether there is a
seat, nor at what price: that is for the group's decider alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.orders.v1.orders_pb2 import (
    WAIT_ACCEPTED,
    WAIT_GROUP_CLOSED,
    WAIT_SEAT_DECIDED,
    WAIT_UNSPECIFIED,
    PlaceOrderRequest,
    PlaceOrderResponse,
    Wait,
)

from chassis.replicas import Alone
from chassis.replicas_calls import Context
from chassis.waiting import Patience
from eventlog.errors import BrokerUnavailable
from eventlog.publisher import Position
from services.orders.api import refusals
from services.orders.api.facts import Facts, placed
from services.orders.api.links import Invitations
from services.orders.api.ports import Campaigns
from services.orders.api.reading import Reader, Seen
from services.orders.api.tokens import Token, encode
from services.orders.domain.ids import (
    OrderName,
    campaign_of,
    group_id,
    group_of,
    is_id,
    order_id,
    request_digest,
)
from services.orders.domain.orders import GroupOrders, OrdersFold
from services.orders.domain.view import OrderView

#: What PlaceOrder waits for.
WAITS: Mapping[Wait.ValueType, Callable[[OrderView], bool]] = {
    WAIT_UNSPECIFIED: lambda order: order.decided,
    WAIT_SEAT_DECIDED: lambda order: order.decided,
    WAIT_GROUP_CLOSED: lambda order: order.final,
}


class Asked(NamedTuple):
    """A request, and the order that it stands for."""

    request: PlaceOrderRequest
    name: OrderName
    #: SHA-256 of what is asked for.
    digest: bytes


class Placing:
    """The way of an order into the log and back."""

    def __init__(self, reader: Reader, campaigns: Campaigns, facts: Facts, links: Invitations) -> None:
        self._reader = reader
        self._campaigns = campaigns
        self._facts = facts
        self._links = links
        self._fold = OrdersFold()

    async def place_there(self, request: PlaceOrderRequest, replicas: Alone, context: Context) -> PlaceOrderResponse:
        """Places an order and waits as asked, wherever the order's partition is. The same request again answers with
        the same order."""
        return await self.place_asked(understood(request), replicas, context)

    async def place_asked(self, asked: Asked, replicas: Alone, context: Context) -> PlaceOrderResponse:
        """As `place_there`, of a request that was looked at."""

        async def here() -> PlaceOrderResponse:
            return await self.place(asked, Patience(context))

        return await replicas.ask("PlaceOrder", asked.name.group, asked.request, context, here)

    async def place(self, asked: Asked, patience: Patience) -> PlaceOrderResponse:
        """As `place_asked`, in this process. Raises NotReady where the partition is not here."""
        seen = self.known(asked)
        if seen is not None:
            return await self.answer(asked, seen, self._reader.here(asked.name), patience)
        if not self.check_now(asked):
            await self._check(asked, patience)
        fact = self.fact(asked)
        position = await self._facts.append(fact, patience)
        seen, token = self.stated(asked, fact, position)
        return await self.answer(asked, seen, token, patience, fresh=True)

    def known(self, asked: Asked) -> Seen | None:
        """The order if it was placed before. Raises ApiError REQUEST_ID_REUSED where it is another's, and NotReady."""
        seen = self._reader.find(asked.name)
        if seen is not None:
            _same_request(seen, asked.digest)
        return seen

    def fact(self, asked: Asked) -> OrderFact:
        """What a checked request states."""
        return placed(asked.name, asked.request, asked.digest, self._links.of(asked.request))

    def stated(self, asked: Asked, fact: OrderFact, position: Position) -> tuple[Seen, Token]:
        """What can be said of an order that stands in the log, before anybody has decided."""
        token = Token(position.partition, position.offset)
        self._reader.wrote(token)
        seen = self._reader.find(asked.name)
        if seen is None:
            group = self._fold.initial(asked.name.group)
            self._fold.fold_fact(group, fact, position.timestamp_ms)
            seen = Seen(asked.name, group, group.orders[asked.name.order])
        _same_request(seen, asked.digest)
        return seen, token

    async def answer(
        self, asked: Asked, seen: Seen, token: Token, patience: Patience, *, fresh: bool = False
    ) -> PlaceOrderResponse:
        """The answer once there is what the caller waits for. `fresh`: its fact may not be folded yet."""
        if asked.request.wait != WAIT_ACCEPTED:
            enough = WAITS[asked.request.wait]
            # A decision may be read before the fact it is about; with the fact the answer is whole.
            seen = await self._reader.when(
                asked.name, lambda order: enough(order) and (order.placed or not fresh), patience, token
            )
            # Two requests with one id may have been under way at once: the log says whose the order is.
            _same_request(seen, asked.digest)
        answer = PlaceOrderResponse(token=encode(token))
        seen.show(answer.order)
        return answer

    # Plain mistakes -----------------------------------------------------------------------------------------------

    def check_now(self, asked: Asked) -> bool:
        """Refuses what is plainly a mistake. False: that can't be told without waiting. Raises ApiError, NotReady."""
        self._links.check(asked.request)
        campaign = self._campaigns.find(campaign_of(asked.request.campaign))
        if campaign is None:
            return False
        if not asked.request.group:
            _judge(asked.request, campaign, None)
            return True
        group = self._reader.opened_now(asked.name.group)
        if group is None:
            return False
        _judge(asked.request, campaign, group)
        return True

    async def _check(self, asked: Asked, patience: Patience) -> None:
        campaign = await self._campaign(campaign_of(asked.request.campaign), patience)
        group = None
        if asked.request.group:
            group = await self._reader.opened(asked.name.group, patience)
            if group is None:
                raise refusals.group_not_found(asked.name.group)
        _judge(asked.request, campaign, group)

    async def _campaign(self, wanted: str, patience: Patience) -> Campaign:
        campaign = self._campaigns.find(wanted)
        if campaign is None:
            try:
                async with asyncio.timeout(patience.left_s()):
                    campaign = await self._campaigns.find_fresh(wanted)
            except TimeoutError:
                raise BrokerUnavailable("the campaigns' topic could not be read to its end in time") from None
        if campaign is None:
            raise refusals.campaign_not_found(wanted)
        return campaign


def understood(request: PlaceOrderRequest) -> Asked:
    """A valid request and the order it stands for: the same for the same customer, request id and group."""
    if request.group:
        group = group_of(request.group)
        if not is_id(group):
            raise refusals.invalid_field("group", "is not the name of a group")
    else:
        group = group_id(request.customer, request.request_id)
    name = OrderName(group, order_id(group, request.customer, request.request_id))
    return Asked(request, name, request_digest(request))


def _judge(request: PlaceOrderRequest, campaign: Campaign, group: GroupOrders | None) -> None:
    """Raises ApiError for what is wrong with an order, given its campaign and the group that it joins, if any."""
    wanted = campaign_of(request.campaign)
    currency = campaign.currency
    if group is None:
        if campaign.archived:
            raise refusals.campaign_archived(wanted)
    else:
        if group.campaign != wanted:
            raise refusals.campaign_mismatch(wanted, group.campaign)
        # The group's frozen terms count, not the campaign as it is now.
        currency = group.currency or currency
    if request.currency != currency:
        raise refusals.currency_mismatch(request.currency, currency)


def _same_request(seen: Seen, digest: bytes) -> None:
    """Raises ApiError where the request id stands for another payload."""
    if seen.view.request_sha256 and seen.view.request_sha256 != digest:
        raise refusals.request_id_reused(seen.name)
