"""LinkService: creates and resolves share links.

Links are not stored. The token contains all facts, so any replica creates and resolves links. The bearer of a link sees
its group without the members, and gets tokens to join.
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

from chassis.rpc.validation import invalid_field, invalid_fields
from services.groups.api.pictures import KINDS, Pictures
from shared_kernel.share_links.share_link_api import invitation, link_refused, links_not_configured
from shared_kernel.share_links.share_link_codec import MAX_DEPTH
from shared_kernel.share_links.share_link_token import Keys, Link, LinkRefused, Refusal, Verified

Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = "groupbuy.groups.v1.LinkService"
KEYS_VARIABLE = "GROUPBUY_GROUPS_LINK_KEYS"
#: Default lifetime of a link in seconds.
TTL_S = 7 * 24 * 3600
#: Most groups offered in place of a group that can't be joined.
MAX_ALTERNATIVES = 10


class Groups(Protocol):
    """The part of GroupService that links need. It answers for groups of every replica."""

    def GetGroup(self, request: GetGroupRequest, context: Context) -> Awaitable[Group]:
        """A group. Raises ApiError."""
        ...

    def ListGroups(self, request: ListGroupsRequest, context: Context) -> Awaitable[ListGroupsResponse]:
        """Open groups of a campaign, nearest to completion first. Raises ApiError."""
        ...


class Campaigns(Protocol):
    """The part of CampaignService that links need."""

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
        """Creates a link to an existing group or campaign."""
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
            raise invalid_field("inviter", str(error)) from None
        url = self._base_url + token
        response = CreateShareLinkResponse(share_token=token, url=url, invitation=invitation(self._keys.verify(token)))
        response.expire_time.FromSeconds(link.expires_s)
        if request.qr_format in KINDS:
            response.qr = await self._pictures.render(url, request.qr_format)
        return response

    async def ResolveShareLink(self, request: ResolveShareLinkRequest, context: Context) -> ResolveShareLinkResponse:
        """Resolves a link. If its group can't be joined, the answer has open groups of the campaign."""
        self._require_keys()
        try:
            verified = self._keys.open(request.share_token, self._now_s())
        except LinkRefused as refused:
            raise link_refused(refused, "share_token") from None
        link = verified.link
        response = ResolveShareLinkResponse(invitation=invitation(verified))
        response.create_time.FromSeconds(link.issued_s)
        response.expire_time.FromSeconds(link.expires_s)
        if link.group:
            group = await self._group(link.group, context)
            response.target = group.name
            response.campaign = group.campaign
            response.joinable = joinable(group)
            response.group.CopyFrom(group)
            response.group.ClearField("members")
        else:
            response.target = response.campaign = f"campaigns/{link.campaign}"
            await self._campaigns.GetCampaign(GetCampaignRequest(name=response.campaign), context)
        if not response.joinable:
            request_open = ListGroupsRequest(campaign=response.campaign, page_size=MAX_ALTERNATIVES)
            for open_group in (await self._groups.ListGroups(request_open, context)).groups:
                response.open_groups.append(
                    OpenGroup(group=open_group, share_token=self._alternative(link, open_group))
                )
        return response

    def _alternative(self, link: Link, group: Group) -> str:
        """A token to another group, with inviter, age and depth of the link."""
        return self._keys.sign(replace(link, group=group.name.removeprefix("groups/"), campaign=""))

    async def _parent(self, token: str, link: Link, campaign: str, context: Context) -> Verified:
        """The parent of a forwarded link. It names the same campaign; an expired parent is valid."""
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
            raise invalid_fields(
                [("parent_link", f"is at the maximum depth of {MAX_DEPTH} links; create a link without a parent")]
            )
        return parent

    async def _group(self, group: str, context: Context) -> Group:
        return await self._groups.GetGroup(GetGroupRequest(name=f"groups/{group}"), context)

    def _require_keys(self) -> None:
        if not self._keys:
            raise links_not_configured(KEYS_VARIABLE)


def joinable(group: Group) -> bool:
    """Whether one more shopper can join the group or its waitlist."""
    forming = group.state == GROUP_STATE_FORMING and not group.terms.solo
    return forming and (group.seats_left > 0 or group.terms.waitlist)


def _forward(link: Link, parent: Verified) -> Link:
    return replace(link, depth=parent.link.depth + 1, parent=parent.link_id)
