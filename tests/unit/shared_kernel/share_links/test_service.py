"""LinkService: links to existing targets, forwards that form a tree, and open groups in place of a closed one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from groupbuy.errors.v1 import errors_pb2
from groupbuy.groups.v1.campaigns_pb2 import Campaign, GetCampaignRequest
from groupbuy.groups.v1.groups_pb2 import (
    GROUP_STATE_COMPLETED,
    GROUP_STATE_FORMING,
    GetGroupRequest,
    Group,
    ListGroupsRequest,
    ListGroupsResponse,
    Member,
)
from groupbuy.groups.v1.links_pb2 import (
    QR_FORMAT_PNG,
    QR_FORMAT_SVG,
    CreateShareLinkRequest,
    CreateShareLinkResponse,
    ResolveShareLinkRequest,
    ResolveShareLinkResponse,
)
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_FRIEND, SHARE_CHANNEL_LIVE_ROOM

from chassis.rpc.errors import ApiError
from chassis.rpc.validation import validate
from services.groups.api.links import MAX_ALTERNATIVES, TTL_S, LinkServicer, joinable
from shared_kernel.api_errors import campaign_not_found, group_not_found
from shared_kernel.share_links.share_link_token import Keys

CALL: Any = None
KEYS = Keys({"k1": bytes(32)})
BASE = "https://shop.example/s/"


def uuid(number: int) -> str:
    return f"0b6a0c2e-0f54-5a4e-9a59-{number:012x}"


@dataclass
class Shop:
    """GroupService and CampaignService in memory."""

    groups: dict[str, Group] = field(default_factory=dict)
    requests: list[ListGroupsRequest] = field(default_factory=list)
    now_s: int = 1_700_000_000

    def add(self, number: int, campaign: str = "mug", **more: Any) -> str:
        fields: dict[str, Any] = {"state": GROUP_STATE_FORMING, "seats_left": 3, "members": [Member(customer="ann")]}
        group = Group(name=f"groups/{uuid(number)}", campaign=f"campaigns/{campaign}", **fields | more)
        self.groups[group.name] = group
        return group.name

    async def GetGroup(self, request: GetGroupRequest, context: Any) -> Group:
        if request.name not in self.groups:
            raise group_not_found(request.name.removeprefix("groups/"))
        return self.groups[request.name]

    async def ListGroups(self, request: ListGroupsRequest, context: Any) -> ListGroupsResponse:
        self.requests.append(request)
        found = [one for one in self.groups.values() if one.campaign == request.campaign and joinable(one)]
        return ListGroupsResponse(groups=sorted(found, key=lambda one: one.seats_left))

    async def GetCampaign(self, request: GetCampaignRequest, context: Any) -> Campaign:
        if request.name not in {"campaigns/mug", "campaigns/pot"}:
            raise campaign_not_found(request.name)
        return Campaign(name=request.name)

    def service(self, keys: Keys = KEYS) -> LinkServicer:
        return LinkServicer(keys, self, self, BASE, lambda: self.now_s)

    async def create(self, target: str, inviter: str = "ann", **more: Any) -> CreateShareLinkResponse:
        request = CreateShareLinkRequest(target=target, inviter=inviter, **{"channel": SHARE_CHANNEL_FRIEND} | more)
        validate(request)
        return await self.service().CreateShareLink(request, CALL)

    async def resolve(self, token: str) -> ResolveShareLinkResponse:
        return await self.service().ResolveShareLink(ResolveShareLinkRequest(share_token=token), CALL)


@pytest.fixture
def shop() -> Shop:
    return Shop()


def reason(caught: pytest.ExceptionInfo[ApiError]) -> str:
    return caught.value.reason_name


async def test_a_link_to_a_group_shows_the_group_without_its_members(shop: Shop) -> None:
    group = shop.add(1)
    made = await shop.create(group)
    assert made.url == BASE + made.share_token
    assert made.expire_time.seconds == shop.now_s + TTL_S
    found = await shop.resolve(made.share_token)
    assert (found.target, found.campaign, found.joinable) == (group, "campaigns/mug", True)
    assert found.invitation == made.invitation
    assert (found.invitation.inviter, found.invitation.depth) == ("ann", 1)
    assert (found.create_time.seconds, found.expire_time) == (shop.now_s, made.expire_time)
    assert found.group.seats_left == 3
    assert not found.group.members
    assert not found.open_groups
    assert shop.groups[group].members, "what the service shows others is left alone"


async def test_a_link_to_a_closed_group_offers_open_groups(shop: Shop) -> None:
    closed = shop.add(1)
    token = (await shop.create(closed, channel=SHARE_CHANNEL_LIVE_ROOM)).share_token
    far, near = shop.add(2, seats_left=9), shop.add(3, seats_left=1)
    shop.add(4, campaign="pot")
    shop.groups[closed].state = GROUP_STATE_COMPLETED
    found = await shop.resolve(token)
    assert (found.joinable, found.group.state) == (False, GROUP_STATE_COMPLETED)
    assert [one.group.name for one in found.open_groups] == [near, far]
    assert (shop.requests[0].campaign, shop.requests[0].page_size) == ("campaigns/mug", MAX_ALTERNATIVES)
    instead = await shop.resolve(found.open_groups[0].share_token)
    assert (instead.target, instead.joinable, instead.expire_time) == (near, True, found.expire_time)
    assert (instead.invitation.inviter, instead.invitation.channel) == ("ann", SHARE_CHANNEL_LIVE_ROOM)


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({"seats_left": 0}, False),
        ({"seats_left": 0, "terms": {"waitlist": True}}, True),
        ({"terms": {"solo": True}}, False),
        ({"state": GROUP_STATE_COMPLETED}, False),
    ],
)
async def test_a_group_can_be_joined_while_it_forms_and_has_a_seat_or_a_waitlist(
    shop: Shop, group: dict[str, Any], expected: bool
) -> None:
    token = (await shop.create(shop.add(1, **group))).share_token
    assert (await shop.resolve(token)).joinable is expected


async def test_a_link_to_a_campaign_shows_its_open_groups(shop: Shop) -> None:
    near = shop.add(1, seats_left=1)
    found = await shop.resolve((await shop.create("campaigns/mug")).share_token)
    assert (found.target, found.campaign, found.joinable) == ("campaigns/mug", "campaigns/mug", False)
    assert not found.HasField("group")
    assert [one.group.name for one in found.open_groups] == [near]


async def test_forwards_form_a_tree(shop: Shop) -> None:
    group = shop.add(1)
    made = await shop.create("campaigns/mug", inviter="p1")
    for depth in range(2, 6):
        parent, made = made, await shop.create(group, inviter=f"p{depth}", parent_link=made.share_token)
        assert made.invitation.depth == depth
        assert made.invitation.parent_link_id == parent.invitation.link_id
    assert (await shop.resolve(made.share_token)).invitation.inviter == "p5"


async def test_a_forward_is_of_the_same_campaign_and_its_parent_is_ours(shop: Shop) -> None:
    mug, pot = shop.add(1), shop.add(2, campaign="pot")
    other_mug = shop.add(3)
    token = (await shop.create(mug)).share_token
    assert (await shop.create(other_mug, parent_link=token)).invitation.depth == 2
    for target in (pot, "campaigns/pot"):
        with pytest.raises(ApiError) as caught:
            await shop.create(target, parent_link=token)
        assert reason(caught) == "LINK_WRONG_CAMPAIGN"
    with pytest.raises(ApiError) as caught:
        await shop.create(mug, parent_link=token[:-1] + ("A" if token[-1] != "A" else "Q"))
    assert reason(caught) in {"LINK_SIGNATURE", "LINK_MALFORMED"}
    assert caught.value.fields[0][0] == "parent_link"
    shop.now_s += TTL_S
    assert (await shop.create(mug, parent_link=token)).invitation.depth == 2, "where it came from does not expire"


async def test_a_chain_has_an_end(shop: Shop) -> None:
    group = shop.add(1)
    token = ""
    for _ in range(100):
        token = (await shop.create(group, parent_link=token)).share_token
    with pytest.raises(ApiError) as caught:
        await shop.create(group, parent_link=token)
    assert reason(caught) == "INVALID_FIELDS"


async def test_links_to_unknown_targets_are_not_found(shop: Shop) -> None:
    for target, expected in (
        (f"groups/{uuid(9)}", "GROUP_NOT_FOUND"),
        (f"groups/{'-' * 36}", "GROUP_NOT_FOUND"),
        ("campaigns/no", "CAMPAIGN_NOT_FOUND"),
    ):
        with pytest.raises(ApiError) as caught:
            await shop.create(target)
        assert reason(caught) == expected


async def test_expired_and_forged_links_are_refused_with_their_reason(shop: Shop) -> None:
    group = shop.add(1)
    token = (await shop.create(group, ttl=Duration(seconds=60))).share_token
    forged = (
        await LinkServicer(Keys({"k1": bytes(31) + b"x"}), shop, shop).CreateShareLink(
            CreateShareLinkRequest(target=group, inviter="eve", channel=SHARE_CHANNEL_FRIEND), CALL
        )
    ).share_token
    stranger = (
        await LinkServicer(Keys({"k7": bytes(32)}), shop, shop).CreateShareLink(
            CreateShareLinkRequest(target=group, inviter="eve", channel=SHARE_CHANNEL_FRIEND), CALL
        )
    ).share_token
    shop.now_s += 60
    for bad, expected in (
        (token, "LINK_EXPIRED"),
        (forged, "LINK_SIGNATURE"),
        (stranger, "LINK_KEY_UNKNOWN"),
        ("AAAA", "LINK_MALFORMED"),
    ):
        with pytest.raises(ApiError) as caught:
            await shop.resolve(bad)
        assert reason(caught) == expected


async def test_an_unknown_channel_survives(shop: Shop) -> None:
    made = await shop.create(shop.add(1), channel=4242)
    assert (await shop.resolve(made.share_token)).invitation.channel == 4242


@pytest.mark.parametrize(
    "more", [{"channel": 0}, {"channel": -1}, {"channel": 65_536}, {"ttl": Duration()}, {"inviter": ""}]
)
async def test_invalid_requests_are_refused_by_the_rules_of_the_proto(shop: Shop, more: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        await shop.create(shop.add(1), **more)
    assert reason(caught) == "INVALID_FIELDS"


async def test_an_inviter_too_long_for_a_token_is_an_invalid_field(shop: Shop) -> None:
    with pytest.raises(ApiError) as caught:
        await shop.create(shop.add(1), inviter="字" * 100)
    assert reason(caught) == "INVALID_FIELDS"


async def test_a_qr_code_comes_as_svg_and_png(shop: Shop) -> None:
    group = shop.add(1)
    svg = await shop.create(group, qr_format=QR_FORMAT_SVG)
    assert ElementTree.fromstring(svg.qr).tag == "{http://www.w3.org/2000/svg}svg"
    png = await shop.create(group, qr_format=QR_FORMAT_PNG)
    assert png.qr.startswith(b"\x89PNG\r\n\x1a\n")
    assert not (await shop.create(group)).qr


async def test_without_keys_the_error_names_the_setting(shop: Shop) -> None:
    service = shop.service(Keys({}))
    for call in (
        service.CreateShareLink(CreateShareLinkRequest(target=shop.add(1)), CALL),
        service.ResolveShareLink(ResolveShareLinkRequest(share_token="x"), CALL),
    ):
        with pytest.raises(ApiError) as caught:
            await call
        assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.reason == errors_pb2.ERROR_REASON_LINKS_NOT_SET_UP
        assert "GROUPBUY_GROUPS_LINK_KEYS" in caught.value.message
