"""CampaignService: writes offers to their topic once their terms make sense, and reads them from there.

Must never write a campaign that a group could not be opened of, nor a second one under an id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid5
from weakref import WeakValueDictionary

import grpc
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest, GetCampaignRequest
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceServicer

from chassis.topics import CAMPAIGNS
from chassis.waiting import Patience
from eventlog.envelope import headers
from eventlog.errors import BrokerUnavailable
from services.groups.api import refusals
from services.groups.api.groups import PUBLISH_S, SOURCE, wall_clock_ms
from services.groups.api.ports import Campaigns, Publishes
from services.groups.domain.terms import DEFAULT_RULES_VERSION, problems

Context = grpc.aio.ServicerContext[Any, Any]

#: Namespace of ids made from request ids. Changing it would make every retry a new campaign.
NAMESPACE = UUID("12f2e20f-cabd-5978-abea-6fddd8720562")
#: What the service itself sets: no part of what a caller asks for.
OUTPUT_FIELDS = ("name", "rules_version", "revision", "create_time", "archived")


class CampaignServicer(CampaignServiceServicer):
    """The service `groupbuy.groups.v1.CampaignService`."""

    def __init__(self, campaigns: Campaigns, publisher: Publishes, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._campaigns = campaigns
        self._publisher = publisher
        self._now_ms = now_ms
        #: Two calls for one id take turns: the second meets what the first has written.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def CreateCampaign(self, request: CreateCampaignRequest, context: Context) -> Campaign:
        """Makes a campaign. The same request again answers with what is stored."""
        patience = Patience(context)
        key = request.campaign_id or str(uuid5(NAMESPACE, request.request_id))
        asked = _asked(request.campaign)
        wrong = problems(asked)
        if wrong:
            raise refusals.bad_terms(wrong)
        turn = self._turns.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout(patience.left_s()), turn:
                stored = await self._campaigns.find_fresh(key)
                if stored is None:
                    await self._write(key, asked, patience)
                    # Read back: what is answered is what every group will be opened of.
                    stored = await self._campaigns.find_fresh(key)
        except TimeoutError:
            raise BrokerUnavailable("the campaigns' topic could not be written and read back in time") from None
        if stored is None:
            raise BrokerUnavailable("the campaign was written and can't be read back yet")
        if _asked(stored) != asked:
            raise refusals.campaign_exists(key)
        return stored

    async def GetCampaign(self, request: GetCampaignRequest, context: Context) -> Campaign:
        """A campaign as it is now."""
        key = request.name.removeprefix("campaigns/")
        campaign = self._campaigns.find(key)
        if campaign is None:
            try:
                async with asyncio.timeout(Patience(context).left_s()):
                    campaign = await self._campaigns.find_fresh(key)
            except TimeoutError:
                raise BrokerUnavailable("the campaigns' topic could not be read to its end in time") from None
        if campaign is None:
            raise refusals.campaign_not_found(key)
        return campaign

    async def _write(self, key: str, asked: Campaign, patience: Patience) -> None:
        now_ms = self._now_ms()
        made = Campaign()
        made.CopyFrom(asked)
        made.name = f"campaigns/{key}"
        made.rules_version = DEFAULT_RULES_VERSION
        made.revision = 1
        made.create_time.FromMilliseconds(now_ms)
        await self._publisher.publish(
            CAMPAIGNS.name,
            key,
            made.SerializeToString(),
            headers(f"{key}:{made.revision}", Campaign.DESCRIPTOR.full_name, SOURCE, now_ms, made.name),
            # Never 0, which would mean the publisher's own time-out.
            timeout_s=max(patience.left_s(PUBLISH_S), 0.001),
        )


def _asked(campaign: Campaign) -> Campaign:
    """What a caller asks for of a campaign."""
    asked = Campaign()
    asked.CopyFrom(campaign)
    for field in OUTPUT_FIELDS:
        asked.ClearField(field)  # type: ignore[arg-type] # the stubs want each name as a literal
    return asked
