"""CampaignService: writes offers to their topic once their terms make sense, and reads them from there.

Must never write a campaign that a group could not be opened of, nor a second one under an id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid5
from weakref import WeakValueDictionary

import grpc
from groupbuy.groups.v1.campaigns_pb2 import (
    ArchiveCampaignRequest,
    Campaign,
    CreateCampaignRequest,
    GetCampaignRequest,
    ListCampaignsRequest,
    ListCampaignsResponse,
    UpdateCampaignRequest,
)
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceServicer

from chassis.admission.capacity import CapacityLimiter
from chassis.rpc.call_deadline import CallDeadline
from chassis.rpc.pagination import Paging, page_size
from eventlog.core.errors import BrokerUnavailable
from eventlog.producing.publisher import Publishes
from eventlog.producing.record_accumulator import Record
from eventlog.records.envelope import headers
from services.groups.api import edits
from services.groups.api import errors as refusals
from services.groups.api.groups import PUBLISH_S, SOURCE, wall_clock_ms
from services.groups.api.ports import Campaigns
from services.groups.domain.terms import problems
from shared_kernel.topics import CAMPAIGNS

Context = grpc.aio.ServicerContext[Any, Any]

#: Namespace of ids made from request ids. Changing it would make every retry a new campaign.
NAMESPACE = UUID("12f2e20f-cabd-5978-abea-6fddd8720562")
#: Campaigns in one page.
DEFAULT_SIZE = 50
MAX = 500
#: Calls that wait until the topic is read to its end, and those of one identity. One read serves all of them.
MAX_WAITING = 400
SHARE = 200
WAIT = "wait for the campaigns' topic"


class CampaignServicer(CampaignServiceServicer):
    """The service `groupbuy.groups.v1.CampaignService`."""

    def __init__(self, campaigns: Campaigns, publisher: Publishes, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._campaigns = campaigns
        self._publisher = publisher
        self._now_ms = now_ms
        self._reading = CapacityLimiter(MAX_WAITING, SHARE)
        #: Two calls for one id take turns: the second meets what the first has written.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def CreateCampaign(self, request: CreateCampaignRequest, context: Context) -> Campaign:
        """Makes a campaign. The same request again answers with what is stored."""
        patience = CallDeadline(context)
        key = request.campaign_id or str(uuid5(NAMESPACE, request.request_id))
        asked = edits.asked(request.campaign)
        wrong = problems(asked)
        if wrong:
            raise refusals.bad_terms(wrong)
        async with self._turn(key, patience):
            stored = await self._campaigns.get_latest(key)
            if stored is None:
                stored = await self._store(key, edits.made(key, asked, self._now_ms()), patience)
        if edits.asked(stored) != asked:
            raise refusals.campaign_exists(key)
        return edits.shown(stored)

    async def GetCampaign(self, request: GetCampaignRequest, context: Context) -> Campaign:
        """A campaign as it is now."""
        key = request.name.removeprefix("campaigns/")
        campaign = self._campaigns.find(key)
        if campaign is None:
            with self._reading.place(WAIT):
                async with _in_time(CallDeadline(context)):
                    campaign = await self._campaigns.get_latest(key)
        if campaign is None:
            raise refusals.campaign_not_found(key)
        return edits.shown(campaign)

    async def ListCampaigns(self, request: ListCampaignsRequest, context: Context) -> ListCampaignsResponse:
        """A page of all campaigns, by name."""
        size = page_size(request.page_size, default=DEFAULT_SIZE, most=MAX)
        paging = Paging(f"campaigns/{request.show_archived}", (str,), size, request.page_token)
        with self._reading.place(WAIT):
            async with _in_time(CallDeadline(context)):
                await self._campaigns.refresh()
        found = (one for one in self._campaigns.values() if request.show_archived or not one.archived)
        page = paging.of(found, lambda campaign: (campaign.name,))
        campaigns = [edits.shown(one) for one in page.items]
        return ListCampaignsResponse(campaigns=campaigns, next_page_token=page.next_token)

    async def UpdateCampaign(self, request: UpdateCampaignRequest, context: Context) -> Campaign:
        """Edits a campaign. Who gives no etag overwrites whatever is there."""
        fields = edits.fields(request)

        def edit(stored: Campaign) -> Campaign:
            return edits.edited(stored, request.campaign, fields)

        return await self._edit(request.campaign.name, request.campaign.etag, edit, CallDeadline(context))

    async def ArchiveCampaign(self, request: ArchiveCampaignRequest, context: Context) -> Campaign:
        """Lets no more groups be opened. Archiving again changes nothing."""
        return await self._edit(request.name, request.etag, edits.archived, CallDeadline(context))

    async def _edit(
        self, name: str, etag: str, edit: Callable[[Campaign], Campaign], patience: CallDeadline
    ) -> Campaign:
        """Edits what is stored, read to the topic's end. An edit that changes nothing is not written."""
        key = edits.id_of(name)
        async with self._turn(key, patience):
            await self._campaigns.refresh()
            stored = self._campaigns.find(key)
            if stored is None:
                raise refusals.campaign_not_found(key)
            if etag and etag != edits.etag(stored):
                raise refusals.etag_mismatch(key, edits.etag(stored))
            wanted = edit(stored)
            if wanted != stored:
                wanted.revision = stored.revision + 1
                stored = await self._store(key, wanted, patience)
                if stored != wanted:
                    # Another replica's edit of the same revision came last: it stands, and ours does not.
                    raise refusals.etag_mismatch(key, edits.etag(stored))
        return edits.shown(stored)

    @asynccontextmanager
    async def _turn(self, key: str, patience: CallDeadline) -> AsyncIterator[None]:
        """The campaign for oneself, among the calls of this process. Raises BrokerUnavailable when time is up."""
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with _in_time(patience), turn:
            yield

    async def _store(self, key: str, campaign: Campaign, patience: CallDeadline) -> Campaign:
        """Writes a campaign and reads it back: what is answered is what every group will be opened of."""
        kind = Campaign.DESCRIPTOR.full_name
        made = headers(f"{key}:{campaign.revision}", kind, SOURCE, self._now_ms(), campaign.name)
        record = Record(key, campaign.SerializeToString(), made)
        await self._publisher.publish(CAMPAIGNS.name, record, timeout_s=patience.left_s(PUBLISH_S))
        await self._campaigns.refresh()
        stored = self._campaigns.find(key)
        if stored is None:
            raise BrokerUnavailable("the campaign was written and can't be read back yet")
        return stored


@asynccontextmanager
async def _in_time(patience: CallDeadline) -> AsyncIterator[None]:
    """What must be done before the caller's deadline. Raises BrokerUnavailable when it is not."""
    try:
        async with asyncio.timeout(patience.left_s()):
            yield
    except TimeoutError:
        raise BrokerUnavailable("the campaigns' topic could not be read or written in time") from None
