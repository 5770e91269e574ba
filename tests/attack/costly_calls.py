"""Attacks with calls that cost much to answer, or that wait for long."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from groupbuy.groups.v1 import campaigns_pb2, links_pb2
from groupbuy.orders.v1 import orders_pb2

from shared_kernel.consistency_tokens import Token, encode
from tests.attack.others import an_order
from tests.attack.outcome import CAMPAIGN, LINK, ORDER, Outcome, Try, answer, at_rate, raw
from tests.attack.site import Site

#: Existing orders of one customer.
ATTACKED = 500


async def broken_items(site: Site, size: float) -> Outcome:
    """Requests of 254 KiB with 80,000 to 130,000 invalid items."""
    tiers = campaigns_pb2.CreateCampaignRequest(campaign=campaigns_pb2.Campaign(tiers=[campaigns_pb2.Tier()] * 130_000))
    orders = orders_pb2.BatchPlaceOrdersRequest(requests=[orders_pb2.PlaceOrderRequest()] * 130_000)
    mask = campaigns_pb2.UpdateCampaignRequest(campaign=campaigns_pb2.Campaign(name=site.campaign))
    mask.update_mask.paths.extend(["x"] * 80_000)
    merchant, shop = site.channel("groups", "merchant"), site.channel("orders", "shop")
    calls = [
        raw(merchant, f"{CAMPAIGN}CreateCampaign", tiers.SerializeToString()),
        raw(merchant, f"{CAMPAIGN}UpdateCampaign", mask.SerializeToString()),
        raw(shop, f"{ORDER}BatchPlaceOrders", orders.SerializeToString()),
    ]
    try:
        return await at_rate(calls * int(20 * size), 10.0)
    finally:
        await merchant.close(grace=None)
        await shop.close(grace=None)


async def long_lists(site: Site, size: float) -> Outcome:
    """Pages of 500 orders of one customer, 50 a second."""
    support = site.channel("orders", "support")
    request = orders_pb2.ListOrdersRequest(parent="groups/-", customer="attacker", page_size=500)
    try:
        return await at_rate([raw(support, f"{ORDER}ListOrders", request.SerializeToString())] * int(400 * size), 50.0)
    finally:
        await support.close(grace=None)


async def pictures(site: Site, size: float) -> Outcome:
    """Links with QR codes, each for a different inviter."""
    shop = site.channel("groups", "shop")

    def one(number: int) -> Try:
        request = links_pb2.CreateShareLinkRequest(
            inviter=f"inviter-{number}-{uuid.uuid4()}",
            target=site.group,
            channel=1,  # type: ignore[arg-type] # the enum is open
            qr_format=links_pb2.QR_FORMAT_PNG,
        )
        return raw(shop, f"{LINK}CreateShareLink", request.SerializeToString())

    try:
        return await at_rate((one(number) for number in range(int(600 * size))), 75.0)
    finally:
        await shop.close(grace=None)


async def unknown_campaigns(site: Site, size: float) -> Outcome:
    """Reads of and orders from campaigns that do not exist."""
    groups, orders = site.channel("groups", "shop"), site.channel("orders", "shop")

    def one(number: int) -> Try:
        name = f"campaigns/none-{number}"
        if number % 2:
            return raw(
                groups, f"{CAMPAIGN}GetCampaign", campaigns_pb2.GetCampaignRequest(name=name).SerializeToString(), 60.0
            )
        return raw(
            orders,
            f"{ORDER}PlaceOrder",
            an_order(site, number, campaign=name, customer="nobody").SerializeToString(),
            60.0,
        )

    try:
        return await at_rate((one(number) for number in range(int(1_200 * size))), 150.0)
    finally:
        await groups.close(grace=None)
        await orders.close(grace=None)


async def forged_tokens(site: Site, size: float) -> Outcome:
    """Consistency tokens for offsets beyond the log, with a deadline of a minute."""
    shop = site.channel("orders", "shop")

    def one(number: int) -> Try:
        order = f"{site.group}/orders/{uuid.UUID(int=number)}"
        # One of the four partitions is the group's; tokens of the others are refused at once.
        request = orders_pb2.GetOrderRequest(name=order, consistency_token=encode(Token(number % 4, 10**15)))
        return raw(shop, f"{ORDER}GetOrder", request.SerializeToString(), 60.0)

    try:
        return await at_rate((one(number) for number in range(int(1_200 * size))), 150.0)
    finally:
        await shop.close(grace=None)


async def closed_groups(site: Site, size: float) -> Outcome:
    """Forty batches of the same 500 orders, which wait until their groups close."""
    shop = site.channel("orders", "shop")
    batch: Any = shop.unary_unary(f"{ORDER}BatchPlaceOrders", None, None)
    wanted = int(ATTACKED * size)
    waiting = orders_pb2.BatchPlaceOrdersRequest(
        requests=[an_order(site, number, wait=orders_pb2.WAIT_FINAL) for number in range(wanted)]
    )
    outcome = Outcome()
    try:
        calls = [asyncio.ensure_future(answer(batch(waiting.SerializeToString(), timeout=12.0))) for _ in range(40)]
        for one in calls:
            outcome.add(await one)
    finally:
        await shop.close(grace=None)
    return outcome
