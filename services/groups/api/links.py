"""LinkService: makes share links, and says what one opens.

Links are kept nowhere: all that one says is in its token, so any replica makes and opens them. Must never give more to
the bearer of a link than a look at the group, without its members, and tokens to join by.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol

import grpc
from groupbuy.groups.v1.campaigns_pb2 import Campaign, GetCampaignRequest
from groupbuy.groups.v1.groups_pb2 import (
    GROUP_STATE_FORMING,
    GetGroupRequest,
    Group,
    ListGroupsRequest,
    ListGroupsResponse,
)
from groupbuy.groups.v1.links_pb2 import (
    CreateShareLinkRequest,
    CreateShareLinkResponse,
    OpenGroup,
    ResolveShareLinkRequest,
    ResolveShareLinkResponse,
)
from groupbuy.groups.v1.links_pb2_grpc import LinkServiceServicer

from chassis.rpc.validation import invalid_fields
from services.groups.api.pictures import KINDS, Pictures
from shared_kernel.share_link_api import invitation, link_refused, links_not_configured
from shared_kernel.share_link_codec import MAX_DEPTH
from shared_kernel.share_links import Keys, Link, LinkRefused, Refusal, Verified

Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = "groupbuy.groups.v1.LinkService"
KEYS_VARIABLE = "GROUPBUY_GROUPS_LINK_KEYS"
#: Seconds that a link opens where nobody said.
TTL_S = 7 * 24 * 3600
#: Groups shown instead of one that can't be joined, at most.
INSTEAD = 10


class Groups(Protocol):
    """What is needed of GroupService, wherever a group lives."""

    def GetGroup(self, request: GetGroupRequest, context: Context) -> Awaitable[Group]:
        """A group. Raises ApiError."""
        ...

    def ListGroups(self, request: ListGroupsRequest, context: Context) -> Awaitable[ListGroupsResponse]:
        """Open groups of a campaign, nearest to completion first. Raises ApiError."""
        ...


class Campaigns(Protocol):
    """What is needed of CampaignService."""

    def GetCampaign(self, request: GetCampaignRequest, context: Context) -> Awaitable[Campaign]:
        """A campaign. Raises ApiError."""
        ...


def wall_clock_s() -> int:
    """Seconds since the epoch."""
    return int(time.time())


class LinkServicer(LinkServiceServicer):
    """The service `groupbuy.groups.v1.LinkService`."""

    def __init__(
        self,
        keys: Keys,
        groups: Groups,
        campaigns: Campaigns,
        base_url: str = "",
        now_s: Callable[[], int] = wall_clock_s,
    ) -> None:
        self._keys = keys
        self._groups = groups
        self._campaigns = campaigns
        self._base_url = base_url
        self._now_s = now_s
        self._pictures = Pictures()

    async def CreateShareLink(self, request: CreateShareLinkRequest, context: Context) -> CreateShareLinkResponse:
        """Makes a link to a group or campaign that there is."""
        self._require_keys()
        kind, _, key = request.target.partition("/")
        if kind == "groups":
            campaign = (await self._group(key, context)).campaign
        else:
            campaign = (await self._campaigns.GetCampaign(GetCampaignRequest(name=request.target), context)).name
        issued_s = self._now_s()
        link = Link(
            inviter=request.inviter,
            channel=request.channel,
            issued_s=issued_s,
            expires_s=issued_s + (request.ttl.seconds or TTL_S),
            group=key if kind == "groups" else "",
            campaign=key if kind == "campaigns" else "",
        )
        if request.parent_link:
            link = _forward(link, await self._parent(request.parent_link, link, campaign, context))
        try:
            token = self._keys.sign(link)
        except ValueError as error:
            raise invalid_fields([("inviter", str(error))]) from None
        url = self._base_url + token
        made = CreateShareLinkResponse(share_token=token, url=url, invitation=invitation(self._keys.verify(token)))
        made.expire_time.FromSeconds(link.expires_s)
        if request.qr_format in KINDS:
            made.qr = await self._pictures.of(url, request.qr_format)
        return made

    async def ResolveShareLink(self, request: ResolveShareLinkRequest, context: Context) -> ResolveShareLinkResponse:
        """What a link opens; where its group can't be joined, open groups of the campaign instead."""
        self._require_keys()
        try:
            verified = self._keys.open(request.share_token, self._now_s())
        except LinkRefused as refused:
            raise link_refused(refused, "share_token") from None
        link = verified.link
        found = ResolveShareLinkResponse(invitation=invitation(verified))
        found.create_time.FromSeconds(link.issued_s)
        found.expire_time.FromSeconds(link.expires_s)
        if link.group:
            group = await self._group(link.group, context)
            found.target = group.name
            found.campaign = group.campaign
            found.joinable = joinable(group)
            found.group.CopyFrom(group)
            found.group.ClearField("members")
        else:
            found.target = found.campaign = f"campaigns/{link.campaign}"
            await self._campaigns.GetCampaign(GetCampaignRequest(name=found.campaign), context)
        if not found.joinable:
            wanted = ListGroupsRequest(campaign=found.campaign, page_size=INSTEAD)
            for open_group in (await self._groups.ListGroups(wanted, context)).groups:
                found.open_groups.append(OpenGroup(group=open_group, share_token=self._instead(link, open_group)))
        return found

    def _instead(self, link: Link, group: Group) -> str:
        """A link of the same inviter, as old and as deep, to another group."""
        return self._keys.sign(replace(link, group=group.name.removeprefix("groups/"), campaign=""))

    async def _parent(self, token: str, link: Link, campaign: str, context: Context) -> Verified:
        """The link that another forwards: of the same campaign. An expired one still says where somebody came from."""
        try:
            parent = self._keys.verify(token)
        except LinkRefused as refused:
            raise link_refused(refused, "parent_link") from None
        opens = f"campaigns/{parent.link.campaign}"
        if parent.link.group:
            same = parent.link.group == link.group
            opens = campaign if same else (await self._group(parent.link.group, context)).campaign
        if opens != campaign:
            raise link_refused(LinkRefused(Refusal.WRONG_CAMPAIGN), "parent_link")
        if parent.link.depth >= MAX_DEPTH:
            raise invalid_fields([("parent_link", f"is the end of a chain of {MAX_DEPTH} links: make a new one")])
        return parent

    async def _group(self, group: str, context: Context) -> Group:
        return await self._groups.GetGroup(GetGroupRequest(name=f"groups/{group}"), context)

    def _require_keys(self) -> None:
        if not self._keys:
            raise links_not_configured(KEYS_VARIABLE)


def joinable(group: Group) -> bool:
    """Whether one more shopper may join, if only to wait for a seat."""
    forming = group.state == GROUP_STATE_FORMING and not group.terms.solo
    return forming and (group.seats_left > 0 or group.terms.waitlist)


def _forward(link: Link, parent: Verified) -> Link:
    return replace(link, depth=parent.link.depth + 1, parent=parent.link_id)
