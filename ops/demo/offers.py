"""The campaigns of the demo with their tiers. Their windows are seconds; a real shop's are days."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import (
    CLOSE_POLICY_AT_DEADLINE,
    CLOSE_POLICY_WHEN_FULL,
    Campaign,
    Tier,
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A campaign of the demo. Prices are in minor units."""

    id: str
    title: str
    currency: str
    solo_price_minor: int
    #: (members, unit price), ascending.
    tiers: tuple[tuple[int, int], ...]
    capacity: int
    window_s: float
    #: The share of groups with this campaign.
    weight: int
    closes_at_deadline: bool = False
    waitlist: bool = False
    house_fill_members: int = 0
    leader_discount_minor: int = 0
    hold_window_s: float = 8.0

    @property
    def entry_price_minor(self) -> int:
        """The first tier's price, the highest that a member can pay per piece."""
        return self.tiers[0][1]

    def campaign(self) -> Campaign:
        """The campaign as a message of the API."""
        return Campaign(
            product=self.title,
            currency=self.currency,
            solo_price_minor=self.solo_price_minor,
            tiers=[Tier(members=members, unit_price_minor=price) for members, price in self.tiers],
            capacity=self.capacity,
            window=_duration(self.window_s),
            hold_window=_duration(self.hold_window_s),
            close_policy=CLOSE_POLICY_AT_DEADLINE if self.closes_at_deadline else CLOSE_POLICY_WHEN_FULL,
            waitlist=self.waitlist,
            house_fill_members=self.house_fill_members,
            leader_discount_minor=self.leader_discount_minor,
        )


def _duration(seconds: float) -> Duration:
    whole = Duration()
    whole.FromMilliseconds(round(seconds * 1000))
    return whole


OFFERS = (
    Offer("ceramic-mug", "Ceramic mug", "CNY", 9900, ((2, 8900), (5, 7900), (10, 6900)), 10, 12.0, 30),
    Offer(
        "down-jacket",
        "Down jacket",
        "CNY",
        59900,
        ((3, 49900), (6, 45900), (12, 39900)),
        12,
        14.0,
        20,
        closes_at_deadline=True,
        leader_discount_minor=2000,
    ),
    Offer("matcha-set", "Matcha set", "JPY", 3800, ((2, 3200), (4, 2900), (8, 2600)), 8, 10.0, 20, waitlist=True),
    Offer("rice-cooker", "Rice cooker", "CNY", 32900, ((4, 25900), (8, 22900)), 10, 12.0, 15, house_fill_members=3),
    Offer("phone-case", "Phone case", "CNY", 2990, ((2, 1990), (10, 1590), (20, 1290)), 20, 8.0, 15),
)
#: The campaign of the one overcrowded group.
RUSH = OFFERS[-1]
