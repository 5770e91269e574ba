"""Links forwarded five times, on real processes: the inviters are read back from the log alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_FRIEND, SHARE_CHANNEL_MOMENTS

from groupbuy_client import AsyncClient
from groupbuy_testing.running import RunningStack
from tests.integration.shop import Shop

PEOPLE = ("bea", "cyd", "dan", "eva", "fay")


async def forwarded(stack: RunningStack, campaign: str) -> str:
    """Ann opens a group and shares it. Each friend joins by the previous link and forwards it."""
    ends = stack.endpoints
    line: dict[str, Any] = {
        "campaign": campaign,
        "currency": "CNY",
        "max_unit_price_minor": 8_900,
        "payment_method": "card_ok",
    }
    async with AsyncClient(orders=ends["orders"], groups=ends["groups"], timeout_s=20) as client:
        group = (await client.place_order(customer="ann", **line)).order.group
        inviter, token = "ann", ""
        for person in PEOPLE:
            channel = SHARE_CHANNEL_MOMENTS if token else SHARE_CHANNEL_FRIEND
            made = await client.create_share_link(target=group, inviter=inviter, channel=channel, parent_link=token)
            token = made.share_token
            resolved = await client.resolve_share_link(token)
            assert (resolved.target, resolved.joinable) == (group, True)
            await client.place_order(customer=person, group=group, share_link=token, **line)
            inviter = person
        return group


def test_a_tree_five_links_deep_is_read_back_from_the_log(shop: Shop) -> None:
    campaign = shop.campaign(capacity=6, tiers=((2, 8_900), (6, 7_900)))
    group = asyncio.run(forwarded(shop.stack, campaign))
    command = [sys.executable, "-m", "ops.main", "invites", group, "--json", "--kafka", shop.stack.kafka]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["depth"], found["invited"]) == (5, 5)
    assert [one["customer"] for one in found["uninvited"]] == ["ann"]
    level = found["links"]
    for depth, person in enumerate(PEOPLE, 1):
        (link,) = level
        assert (link["depth"], link["inviter"]) == (depth, ("ann", *PEOPLE)[depth - 1])
        assert link["channel"] == ("friend" if depth == 1 else "moments")
        assert [one["customer"] for one in link["orders"]] == [person]
        level = link["forwards"]
    assert level == []
