"""A shop with groups in every state, so that each page has something to show."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple
from uuid import uuid4

from groupbuy.groups.v1.groups_pb2 import GroupState
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_GROUP_CHAT, SHARE_CHANNEL_LIVE_ROOM
from groupbuy.orders.v1.orders_pb2 import Order, PlaceOrderRequest

from devstack.stack import Stack
from devstack.supervision.waiting import wait_for
from groupbuy_client import Client

#: The prefix of every customer's id: no response of the console may contain it.
CUSTOMER = "shopper-7c41"
LADDERS = {
    "Down jacket": ("CNY", 59_900, 6, ((2, 52_900), (4, 48_900), (6, 45_900))),
    "Yixing teapot": ("CNY", 23_800, 10, ((2, 19_900), (5, 17_900), (10, 14_900))),
    "Espresso maker": ("EUR", 18_900, 8, ((3, 16_900), (8, 13_900))),
    "Lychees, 5 kg": ("CNY", 9_900, 40, ((5, 7_900), (15, 6_900), (40, 4_900))),
    "Silk scarf": ("CNY", 12_900, 4, ((2, 10_900), (4, 8_900))),
}
#: Seconds for which the groups of a scene form; longer than all checks take.
WINDOWS_S = {
    "Down jacket": 2_730, "Yixing teapot": 1_510, "Espresso maker": 5_390, "Lychees, 5 kg": 3_880, "Silk scarf": 1_950,
}  # fmt: skip
_STEP_S = 60.0


class Opened(NamedTuple):
    """A group of the shop."""

    group: str
    campaign: str
    #: What its members agree to pay at most, and the currency.
    price: int
    currency: str
    leader: str

    @property
    def key(self) -> str:
        """The id of the group."""
        return self.group.removeprefix("groups/")


class Shop:
    """Campaigns and orders over gRPC, with retries of the client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._people = 0

    def campaign(self, product: str, *, window_s: float = 1_800, **terms: object) -> str:
        """Creates a campaign with the ladder of its product. Returns its name."""
        currency, solo, capacity, tiers = LADDERS.get(product, ("CNY", 9_900, 3, ((2, 8_900), (3, 7_900))))
        name = re.sub("[^a-z0-9]+", "-", product.lower())
        fields: dict[str, object] = {
            "campaign_id": f"{name}-{uuid4().hex[:4]}",
            "product": product,
            "currency": currency,
            "solo_price_minor": solo,
            "capacity": capacity,
            "tiers": list(tiers),
            "window": timedelta(seconds=window_s),
            "hold_window": timedelta(seconds=20),
        }
        return self.client.create_campaign(**(fields | terms)).name  # type: ignore[arg-type]

    def open(self, campaign: str) -> Opened:
        """Places an order that opens a group."""
        known = self.client.get_campaign(campaign)
        leader = self.customer()
        price = known.tiers[0].unit_price_minor
        placed = self._place(campaign, "", leader, price, known.currency)
        return Opened(placed.group, campaign, price, known.currency, leader)

    def join(self, one: Opened, count: int = 1, *, link: str = "", method: str = "card_ok") -> list[Order]:
        """Places further orders."""
        return [
            self._place(one.campaign, one.group, self.customer(), one.price, one.currency, link=link, method=method)
            for _ in range(count)
        ]

    def customer(self) -> str:
        """A customer who did not order yet."""
        self._people += 1
        return f"{CUSTOMER}-{self._people}"

    def request(self, one: Opened) -> PlaceOrderRequest:
        """An order that joins a group, for a batch."""
        return PlaceOrderRequest(
            campaign=one.campaign,
            group=one.group,
            customer=self.customer(),
            quantity=1,
            currency=one.currency,
            max_unit_price_minor=one.price,
            payment_method="card_ok",
            request_id=str(uuid4()),
        )

    def _place(
        self,
        campaign: str,
        group: str,
        customer: str,
        price: int,
        currency: str,
        *,
        link: str = "",
        method: str = "card_ok",
    ) -> Order:
        found = self.client.place_order(
            campaign=campaign,
            group=group,
            customer=customer,
            currency=currency,
            max_unit_price_minor=price,
            payment_method=method,
            share_link=link,
        )
        order: Order = found.order
        return order

    def link(self, one: Opened, *, live_room: bool = False, ttl_s: float = 0) -> str:
        """The share token of a link to a group."""
        channel = SHARE_CHANNEL_LIVE_ROOM if live_room else SHARE_CHANNEL_GROUP_CHAT
        more = {"ttl": timedelta(seconds=ttl_s)} if ttl_s else {}
        found = self.client.create_share_link(target=one.group, inviter=one.leader, channel=channel, **more)  # type: ignore[arg-type]
        return found.share_token

    def wait_members(self, one: Opened, count: int) -> None:
        """Waits until the money of so many members is held."""
        if not wait_for(
            lambda: self.client.get_group(one.group).confirmed_members >= count, timeout_s=_STEP_S, every_s=0.1
        ):
            raise AssertionError(f"{one.group} has not {count} members within {_STEP_S:g} s")

    def wait_settled(self, one: Opened) -> None:
        """Waits until the group is completed and settled."""
        if not wait_for(lambda: self.client.get_group(one.group).settled, timeout_s=_STEP_S, every_s=0.2):
            raise AssertionError(f"{one.group} is not settled within {_STEP_S:g} s")

    def wait_closed(self, one: Opened) -> None:
        """Waits until the group is not forming any more."""
        forming = GroupState.GROUP_STATE_FORMING
        if not wait_for(lambda: self.client.get_group(one.group).state != forming, timeout_s=_STEP_S, every_s=0.2):
            raise AssertionError(f"{one.group} is still forming after {_STEP_S:g} s")


class Scene(NamedTuple):
    """The groups that the checks look at."""

    settled: Opened
    forming: Opened
    expired: Opened
    seconds: float


@contextmanager
def shop_of(stack: Stack) -> Iterator[Shop]:
    """The shop of a stack."""
    with Client(orders=stack.endpoints["orders"], groups=stack.endpoints["groups"], timeout_s=20.0) as client:
        yield Shop(client)


def play(shop: Shop) -> Scene:
    """Plays the scene: open groups at several steps, completed and expired ones, a live room, a declined card."""
    began_s = time.monotonic()
    names = {product: shop.campaign(product, window_s=WINDOWS_S[product]) for product in LADDERS}
    short = shop.campaign("Silk scarf", window_s=2)
    expired = shop.open(short)
    settled = shop.open(names["Down jacket"])
    link = shop.link(settled)
    shop.join(settled, 2, link=link)
    shop.join(settled, 1, method="card_declined")
    shop.join(settled, 3)
    forming = shop.open(names["Yixing teapot"])
    shop.join(forming, 4, link=shop.link(forming, live_room=True))
    for product, counts in (
        ("Yixing teapot", (1,)),
        ("Espresso maker", (5, 1)),
        ("Lychees, 5 kg", (11, 3)),
        ("Silk scarf", (1, 0, 2)),
        ("Down jacket", (3, 1)),
    ):
        for count in counts:
            one = shop.open(names[product])
            shop.join(one, count)
    full = [shop.open(names[one]) for one in ("Espresso maker", "Silk scarf")]
    for one, count in zip(full, (7, 3), strict=True):
        shop.join(one, count)
    for one in (settled, *full):
        shop.wait_settled(one)
    shop.wait_closed(expired)
    shop.wait_members(forming, 5)
    return Scene(settled, forming, expired, time.monotonic() - began_s)
