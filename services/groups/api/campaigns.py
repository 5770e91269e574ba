"""CampaignService: validates campaigns, writes them to their topic, and reads them from there.

Only a campaign that orders can open groups of is written, and only one under each id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
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
from chassis.rpc.pagination import PageRequest, PageSize
from chassis.rpc.streaming.call_deadline import CallDeadline
from eventlog.core.errors import BrokerUnavailable
from eventlog.producing.publisher import RecordPublisher
from eventlog.producing.record_accumulator import Record
from eventlog.records.envelope import headers
from eventlog.runtime.wall_clock import wall_clock_ms
from services.groups.api import edits
from services.groups.api import errors as refusals
from services.groups.api.groups import PUBLISH_S, SOURCE
from services.groups.api.payable import require_payable
from services.groups.api.ports import Campaigns
from services.groups.api.supplied import require_supplied
from services.groups.domain.terms import problems
from shared_kernel.api_errors import campaign_not_found
from shared_kernel.payment_providers import CAPABILITIES, Capabilities
from shared_kernel.topics import CAMPAIGNS

Context = grpc.aio.ServicerContext[Any, Any]

#: Namespace of ids derived from request ids. With another namespace a retry would create a second campaign.
NAMESPACE = UUID("12f2e20f-cabd-5978-abea-6fddd8720562")
PAGE_SIZE = PageSize(default=50, limit=500)
#: Calls that wait for a read of the topic to its end, and the share of one identity. One read serves all of them.
MAX_WAITING = 400
SHARE = 200
WAIT = "wait for the campaigns' topic"


class CampaignServicer(CampaignServiceServicer):
    """The service `groupbuy.groups.v1.CampaignService`."""

    def __init__(
        self,
        campaigns: Campaigns,
        publisher: RecordPublisher,
        now_ms: Callable[[], int] = wall_clock_ms,
        providers: Sequence[Capabilities] = tuple(CAPABILITIES.values()),
        *,
        inventory: bool = False,
    ) -> None:
        """`providers` are those of the installation: one of them has to be able to take a campaign. `inventory`: the
        installation has the inventory service."""
        self._campaigns = campaigns
        self._publisher = publisher
        self._providers = providers
        self._inventory = inventory
        self._now_ms = now_ms
        self._reading = CapacityLimiter(MAX_WAITING, SHARE)
        #: One lock for each id: a second call for an id sees what the first has written.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        #: Campaigns that were written and, as the call failed, not read back.
        self._not_read_back: set[str] = set()

    async def CreateCampaign(self, request: CreateCampaignRequest, context: Context) -> Campaign:
        """Creates a campaign. A retry returns the stored campaign."""
        deadline = CallDeadline(context)
        key = request.campaign_id or str(uuid5(NAMESPACE, request.request_id))
        requested = edits.input_fields(request.campaign)
        created = edits.created(key, requested, self._now_ms())
        found = problems(created)
        if found:
            raise refusals.bad_terms(found)
        async with self._lock(key, deadline):
            stored = self._campaigns.find(key)
            if stored is None:
                # A retry of a campaign that exists is not checked again: the providers may have changed.
                require_payable(requested, self._providers)
                require_supplied(requested, inventory=self._inventory)
                stored = await self._store(key, created, deadline)
        if edits.input_fields(stored) != requested:
            raise refusals.campaign_exists(key)
        return edits.with_etag(stored)

    async def GetCampaign(self, request: GetCampaignRequest, context: Context) -> Campaign:
        """Reads a campaign."""
        key = request.name.removeprefix("campaigns/")
        campaign = self._campaigns.find(key)
        if campaign is None:
            with self._reading.slot(WAIT):
                async with _before_deadline(CallDeadline(context)):
                    campaign = await self._campaigns.get_latest(key)
        if campaign is None:
            raise campaign_not_found(key)
        return edits.with_etag(campaign)

    async def ListCampaigns(self, request: ListCampaignsRequest, context: Context) -> ListCampaignsResponse:
        """Lists campaigns by name."""
        size = PAGE_SIZE.of(request.page_size)
        paging = PageRequest(f"campaigns/{request.show_archived}", (str,), size, request.page_token)
        with self._reading.slot(WAIT):
            async with _before_deadline(CallDeadline(context)):
                await self._campaigns.refresh()
        campaigns = (
            campaign for campaign in self._campaigns.values() if request.show_archived or not campaign.archived
        )
        page = paging.page_of(campaigns, lambda campaign: (campaign.name,))
        shown = [edits.with_etag(campaign) for campaign in page.items]
        return ListCampaignsResponse(campaigns=shown, next_page_token=page.next_token)

    async def UpdateCampaign(self, request: UpdateCampaignRequest, context: Context) -> Campaign:
        """Edits a campaign. A request without an etag overwrites other edits."""
        fields = edits.fields(request)

        def edit(stored: Campaign) -> Campaign:
            changed = edits.edited(stored, request.campaign, fields)
            if changed != stored:
                require_payable(changed, self._providers)
                require_supplied(changed, inventory=self._inventory)
            return changed

        return await self._edit(request.campaign.name, request.campaign.etag, edit, CallDeadline(context))

    async def ArchiveCampaign(self, request: ArchiveCampaignRequest, context: Context) -> Campaign:
        """Archives a campaign: no more groups can be opened of it. Idempotent."""
        return await self._edit(request.name, request.etag, edits.archived, CallDeadline(context))

    async def _edit(
        self, name: str, etag: str, edit: Callable[[Campaign], Campaign], deadline: CallDeadline
    ) -> Campaign:
        """Reads the topic to its end and edits the campaign. An edit without a change is not written."""
        key = edits.id_of(name)
        async with self._lock(key, deadline):
            stored = self._campaigns.find(key)
            if stored is None:
                raise campaign_not_found(key)
            if etag and etag != edits.etag(stored):
                raise refusals.etag_mismatch(key, edits.etag(stored))
            changed = edit(stored)
            if changed != stored:
                changed.revision = stored.revision + 1
                stored = await self._store(key, changed, deadline)
                if stored != changed:
                    # Another replica wrote the same revision later: its edit wins.
                    raise refusals.etag_mismatch(key, edits.etag(stored))
        return edits.with_etag(stored)

    @asynccontextmanager
    async def _lock(self, key: str, deadline: CallDeadline) -> AsyncIterator[None]:
        """Reads the topic to its end, and locks a campaign among the calls of this process.

        The read comes first: one read serves all calls that wait, and a call that writes nothing keeps the lock for no
        time. A call that writes reads its record back before it releases the lock; where that failed, the next call
        reads again. Raises BrokerUnavailable at the deadline.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with _before_deadline(deadline):
            await self._campaigns.refresh()
            async with lock:
                if key in self._not_read_back:
                    await self._campaigns.refresh()
                    self._not_read_back.discard(key)
                yield

    async def _store(self, key: str, campaign: Campaign, deadline: CallDeadline) -> Campaign:
        """Writes a campaign and reads it back. The answer is the campaign that new groups freeze."""
        kind = Campaign.DESCRIPTOR.full_name
        record_headers = headers(f"{key}:{campaign.revision}", kind, SOURCE, self._now_ms(), campaign.name)
        record = Record(key, campaign.SerializeToString(), record_headers)
        self._not_read_back.add(key)
        await self._publisher.publish(CAMPAIGNS.name, record, timeout_s=deadline.left_s(PUBLISH_S))
        await self._campaigns.refresh()
        self._not_read_back.discard(key)
        stored = self._campaigns.find(key)
        if stored is None:
            raise BrokerUnavailable("the campaign was written, but can't be read back yet")
        return stored


@asynccontextmanager
async def _before_deadline(deadline: CallDeadline) -> AsyncIterator[None]:
    """Limits a block to the caller's deadline. Raises BrokerUnavailable after it."""
    try:
        async with asyncio.timeout(deadline.left_s()):
            yield
    except TimeoutError:
        raise BrokerUnavailable("the campaigns' topic could not be read or written in time") from None
