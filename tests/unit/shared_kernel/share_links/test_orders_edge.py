"""An order with a share token: the token is verified once, and its invitation is in the fact."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_GROUP_CHAT, Invitation
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.orders.v1.orders_pb2 import WAIT_ACCEPTED, BatchPlaceOrdersRequest

from chassis.rpc.errors import ApiError
from services.orders.api.orders import OrderServicer
from services.orders.domain.ids import group_id
from shared_kernel.share_links.share_link_token import Keys, Link, link_id
from tests.scenarios import orders as h
from tests.scenarios.api_call import call
from tests.unit.orders.world import OTHER, REQUEST, TIME_MS, World, place_request

NOW_S = TIME_MS // 1_000
KEYS = Keys({"k1": bytes(32)})
GROUP = group_id("ann", REQUEST)
OFFER = Link("zoe", SHARE_CHANNEL_GROUP_CHAT, NOW_S, NOW_S + 60, campaign="mug")
TO_GROUP = Link("ann", 77, NOW_S, NOW_S + 60, group=GROUP, depth=2, parent=link_id(OFFER))


@pytest.fixture
def world() -> World:
    made = World()
    made.decides = h.reserves
    made.campaigns.known["pot"] = Campaign(name="campaigns/pot", currency="CNY")
    made.orders = OrderServicer(made, made.campaigns, made, now_ms=lambda: made.now_ms, link_keys=KEYS)
    return made


async def test_the_fact_has_the_invitation_of_the_link(world: World) -> None:
    await world.place(share_link=KEYS.sign(OFFER))
    await world.place(customer="bob", request_id=OTHER, group=f"groups/{GROUP}", share_link=KEYS.sign(TO_GROUP))
    first, second = (fact.placed.invitation for fact, _ in world.records)
    assert first == Invitation(inviter="zoe", channel=SHARE_CHANNEL_GROUP_CHAT, depth=1, link_id=link_id(OFFER))
    assert (second.inviter, second.depth, second.parent_link_id) == ("ann", 2, link_id(OFFER))
    assert second.channel == 77, "a channel that this build does not know is kept"


async def test_an_order_without_a_link_keeps_its_bytes(world: World) -> None:
    await world.place()
    (fact, _) = world.records[0]
    assert not fact.placed.HasField("invitation")
    assert OrderFact.FromString(fact.SerializeToString()) == fact


BROKEN = {
    "LINK_MALFORMED": ("nonsense!", grpc.StatusCode.INVALID_ARGUMENT),
    "LINK_KEY_UNKNOWN": (Keys({"k9": bytes(32)}).sign(OFFER), grpc.StatusCode.PERMISSION_DENIED),
    "LINK_SIGNATURE": (Keys({"k1": bytes(31) + b"1"}).sign(OFFER), grpc.StatusCode.PERMISSION_DENIED),
    "LINK_EXPIRED": (KEYS.sign(replace(OFFER, expires_s=NOW_S)), grpc.StatusCode.FAILED_PRECONDITION),
    "LINK_WRONG_CAMPAIGN": (KEYS.sign(replace(OFFER, campaign="pot")), grpc.StatusCode.INVALID_ARGUMENT),
    "LINK_WRONG_GROUP": (KEYS.sign(TO_GROUP), grpc.StatusCode.INVALID_ARGUMENT),
}


@pytest.mark.parametrize("reason", BROKEN)
async def test_an_invalid_link_is_refused_with_its_reason_and_no_record_is_appended(world: World, reason: str) -> None:
    token, code = BROKEN[reason]
    with pytest.raises(ApiError) as caught:
        await world.place(share_link=token)
    assert (caught.value.reason_name, caught.value.code) == (reason, code)
    assert caught.value.fields[0][0] == "share_link"
    assert token not in caught.value.message
    assert world.records == []


async def test_a_retry_after_the_link_expired_returns_its_order(world: World) -> None:
    token = KEYS.sign(OFFER)
    first, _ = await world.place(share_link=token)
    world.now_ms += 3_600_000
    again, _ = await world.place(share_link=token)
    assert again.name == first.name
    with pytest.raises(ApiError) as caught:
        await world.place(request_id=OTHER, share_link=token)
    assert caught.value.reason_name == "LINK_EXPIRED", "a link that was good is not good for ever"


async def test_another_link_is_another_payload(world: World) -> None:
    await world.place(share_link=KEYS.sign(OFFER))
    with pytest.raises(ApiError) as caught:
        await world.place(share_link=KEYS.sign(replace(OFFER, inviter="yan")))
    assert caught.value.reason_name == "REQUEST_ID_REUSED"


async def test_without_keys_a_link_is_refused_and_other_orders_are_not(world: World) -> None:
    world.orders = OrderServicer(world, world.campaigns, world, now_ms=lambda: world.now_ms)
    await world.place()
    with pytest.raises(ApiError) as caught:
        await world.place(request_id=OTHER, share_link=KEYS.sign(OFFER))
    assert caught.value.reason_name == "LINKS_NOT_SET_UP"


async def test_an_invalid_link_in_a_batch_fails_alone(world: World) -> None:
    good = place_request(share_link=KEYS.sign(OFFER), wait=WAIT_ACCEPTED)
    bad = place_request(customer="bob", request_id=OTHER, share_link="x", wait=WAIT_ACCEPTED)
    response = await world.orders.BatchPlaceOrders(BatchPlaceOrdersRequest(requests=[good, bad]), call())
    assert [bool(result.status.code) for result in response.results] == [False, True]
    ((fact, _),) = world.records
    assert fact.placed.invitation.inviter == "zoe"
