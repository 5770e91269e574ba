"""Places one order: checks the request, appends the order's fact, and waits for the decision.

The steps are separate methods, so that a batch can check and append many orders together. The group decider alone
decides on seat and price.
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
from chassis.routing.peer_calls import Context, forwarded
from chassis.rpc.streaming.call_deadline import CallDeadline
from chassis.rpc.trace_context import current_trace_id
from chassis.telemetry.event_log import BusinessEvent, EventLog
from eventlog.core.errors import BrokerUnavailable
from eventlog.producing.record_accumulator import Position, Record
from services.orders.api import errors as refusals
from services.orders.api.mapping import show_placed
from services.orders.api.placing.event_publisher import OrderEventPublisher
from services.orders.api.placing.invitations import Invitations
from services.orders.api.placing.parsed_order import ParsedOrder, parse_order
from services.orders.api.placing.payment_methods import PaymentMethods
from services.orders.api.placing.recent_requests import RecentRequests, check_placed, is_fresh
from services.orders.api.placing.sold_out import SoldOutCheck
from services.orders.api.reading import OrderSnapshot, Reader
from services.orders.domain.model import GroupOrders
from shared_kernel.api_errors import campaign_not_found, group_not_found
from shared_kernel.campaign_table import FindsCampaigns
from shared_kernel.consistency_tokens import Token, encode

#: Single orders that wait for their final state in one process, and the share of one identity.
MAX_WAIT_FINAL = 1_000
SHARE_WAIT_FINAL = 500
#: Orders that wait for a campaign or a group which this process does not know, and the share of one identity. The
#: process reads the campaigns' topic to its end, and waits up to a second for the group.
MAX_UNKNOWN = 2_000
SHARE_UNKNOWN = 1_000

#: Conditions on which PlaceOrder answers.
WAITS: Mapping[Wait.ValueType, Callable[[OrderSnapshot], bool]] = {
    WAIT_UNSPECIFIED: lambda snapshot: snapshot.decided,
    WAIT_SEAT_DECIDED: lambda snapshot: snapshot.decided,
    WAIT_FINAL: lambda snapshot: snapshot.view.final,
}


class PlaceOrderHandler:
    """Handler of PlaceOrder."""

    def __init__(
        self,
        reader: Reader,
        campaigns: FindsCampaigns,
        event_publisher: OrderEventPublisher,
        links: Invitations,
        methods: PaymentMethods,
        sold_out: SoldOutCheck,
        now_ms: Callable[[], int],
        event_log: EventLog | None = None,
    ) -> None:
        self._reader = reader
        self._campaigns = campaigns
        self._event_publisher = event_publisher
        self._links = links
        self._methods = methods
        self._sold_out = sold_out
        self._now_ms = now_ms
        self._recent = RecentRequests()
        self._event_log = event_log or EventLog(__name__, 0)
        self._wait_final = CapacityLimiter(MAX_WAIT_FINAL, SHARE_WAIT_FINAL)
        self._unknown = CapacityLimiter(MAX_UNKNOWN, SHARE_UNKNOWN)

    async def handle(self, request: PlaceOrderRequest, replicas: LocalRouter, context: Context) -> PlaceOrderResponse:
        """Places an order at the owner of its partition and waits as requested. A retry returns the same order."""
        parsed = parse_order(request)
        self._recent.check(parsed)
        # A caller that does not wait for the decision does not wait for the read model either.
        compared = request.wait != WAIT_ACCEPTED and not is_fresh(request.request_id, self._now_ms())
        if compared and not forwarded(context):
            await check_placed(parsed, self._reader, replicas, context)
        if request.wait != WAIT_FINAL:
            answer = await self.place_at_owner(parsed, replicas, context)
        else:
            with self._wait_final.slot("wait for their final states"):
                answer = await self.place_at_owner(parsed, replicas, context)
        self._recent.remember(parsed)
        return answer

    async def place_at_owner(self, parsed: ParsedOrder, replicas: LocalRouter, context: Context) -> PlaceOrderResponse:
        """As `handle`, for a parsed request and without a limit."""

        async def here() -> PlaceOrderResponse:
            return await self.place_here(parsed, CallDeadline(context))

        return await replicas.call_owner("PlaceOrder", parsed.name.group, parsed.request, context, here)

    async def place_here(self, parsed: ParsedOrder, deadline: CallDeadline) -> PlaceOrderResponse:
        """As `place_at_owner`, in this process. Raises NotReady if the partition is not here."""
        snapshot = self.find_placed(parsed)
        if snapshot is not None:
            token = self._reader.current_token(parsed.name)
            if parsed.request.wait != WAIT_ACCEPTED:
                return await self.wait_decided(parsed, token, deadline, fresh=False)
            return _answer(snapshot, token)
        if not self.try_check(parsed):
            with self._unknown.slot("wait for unknown campaigns and groups"):
                await self._check_when_known(parsed, deadline)
        position = await self._event_publisher.append(self.event_record(parsed), deadline)
        snapshot = self.mark_appended(parsed, position)
        if parsed.request.wait != WAIT_ACCEPTED:
            return await self.wait_decided(parsed, position, deadline, fresh=True)
        answer = PlaceOrderResponse()
        fill_accepted(answer, parsed, position, snapshot)
        return answer

    def find_placed(self, parsed: ParsedOrder) -> OrderSnapshot | None:
        """The order, if it was placed before. Raises NotReady and, for another payload or in another group, ApiError
        REQUEST_ID_REUSED."""
        self._recent.check(parsed)
        return self._find_same(parsed)

    def _find_same(self, parsed: ParsedOrder) -> OrderSnapshot | None:
        snapshot = self._reader.find(parsed.name)
        if snapshot is not None:
            _same_request(snapshot, parsed.digest)
        return snapshot

    def event_record(self, parsed: ParsedOrder) -> Record:
        """The record of a checked request's fact."""
        return self._event_publisher.placed(parsed, self._links.invitation_of(parsed.request))

    def mark_appended(self, parsed: ParsedOrder, position: Position) -> OrderSnapshot | None:
        """Call it once the log has an order's fact. Returns the order if it is folded. Raises NotReady and, for another
        payload, ApiError REQUEST_ID_REUSED."""
        self._reader.mark_written(position)
        self._recent.remember(parsed)
        if self._event_log.room():
            self._event_log.write(_placed(parsed), current_trace_id() or parsed.name.order.replace("-", ""))
        else:
            self._event_log.leave_out(1)
        return self._find_same(parsed)

    async def wait_decided(
        self, parsed: ParsedOrder, token: Token | Position, deadline: CallDeadline, *, fresh: bool
    ) -> PlaceOrderResponse:
        """Waits for the decision that the caller requested. `fresh`: the fact may not be folded yet."""
        is_decided = WAITS[parsed.request.wait]
        # A decision can be read before its fact. The answer needs fields of the fact.
        snapshot = await self._reader.wait_until(
            parsed.name, lambda found: is_decided(found) and (found.view.placed or not fresh), deadline, token
        )
        # Two requests with one id can be in flight. The first in the log owns the order.
        _same_request(snapshot, parsed.digest)
        return _answer(snapshot, token)

    # Checks -------------------------------------------------------------------------------------------------------

    def try_check(self, parsed: ParsedOrder) -> bool:
        """Checks a request against campaign and group. False if one of them is not known here yet. Raises ApiError and
        NotReady."""
        self._links.check(parsed.request)
        self._methods.check(parsed.request)
        campaign = self._campaigns.find(parsed.campaign)
        if campaign is None:
            return False
        group = None
        if not parsed.opens:
            group = self._reader.find_opened(parsed.name.group)
            if group is None:
                return False
        self._check_terms(parsed, campaign, group)
        return True

    async def _check_when_known(self, parsed: ParsedOrder, deadline: CallDeadline) -> None:
        campaign = await self._campaign(parsed.campaign, deadline)
        group = None
        if not parsed.opens:
            group = await self._reader.wait_opened(parsed.name.group, deadline)
            if group is None:
                raise group_not_found(parsed.name.group)
        self._check_terms(parsed, campaign, group)

    def _check_terms(self, parsed: ParsedOrder, campaign: Campaign, group: GroupOrders | None) -> None:
        """Checks an order against its campaign and the group that it joins, if any. Raises ApiError."""
        currency = campaign.currency
        if group is None:
            if campaign.archived:
                raise refusals.campaign_archived(parsed.campaign)
            if self._reader.has_folded_own(parsed.name.group):
                # Otherwise this may be the retry of an order that is in the log, and has a seat.
                self._sold_out.check(campaign)
        else:
            if group.campaign != parsed.campaign:
                raise refusals.campaign_mismatch(parsed.campaign, group.campaign)
            # The group's frozen terms apply, not the current campaign.
            currency = group.currency or currency
        shown = parsed.request.currency
        if shown != currency:
            raise refusals.currency_mismatch(shown, currency)
        if group is None:
            self._methods.check_opening(parsed.request, campaign)
        else:
            self._methods.check_joining(parsed.request, currency)

    async def _campaign(self, campaign_id: str, deadline: CallDeadline) -> Campaign:
        campaign = self._campaigns.find(campaign_id)
        if campaign is None:
            try:
                async with asyncio.timeout(deadline.left_s()):
                    campaign = await self._campaigns.get_latest(campaign_id)
            except TimeoutError:
                raise BrokerUnavailable(
                    "the campaigns' topic could not be read to its end before the deadline"
                ) from None
        if campaign is None:
            raise campaign_not_found(campaign_id)
        return campaign


def _placed(parsed: ParsedOrder) -> BusinessEvent:
    """The business event of an order whose fact is in the log."""
    name, request = parsed.name, parsed.request
    fields: dict[str, str | int] = {"group": name.group, "order": name.order, "campaign": parsed.campaign}
    return BusinessEvent("order placed", {**fields, "quantity": request.quantity, "currency": request.currency})


def fill_accepted(
    answer: PlaceOrderResponse | PlaceOrderResult,
    parsed: ParsedOrder,
    position: Position,
    snapshot: OrderSnapshot | None,
) -> None:
    """Fills in the answer to an order in the log that waits for no decision; `snapshot` if it is folded already."""
    if snapshot is None:
        show_placed(answer.order, parsed, position.timestamp_ms)
    else:
        snapshot.show(answer.order)
    answer.consistency_token = encode(position)


def _answer(snapshot: OrderSnapshot, token: Token | Position) -> PlaceOrderResponse:
    answer = PlaceOrderResponse(consistency_token=encode(token))
    snapshot.show(answer.order)
    return answer


def _same_request(snapshot: OrderSnapshot, digest: bytes) -> None:
    """Raises ApiError REQUEST_ID_REUSED if the order has another payload."""
    if snapshot.view.request_sha256 and snapshot.view.request_sha256 != digest:
        raise refusals.request_id_reused(snapshot.name)
