"""Random valid campaigns."""

from __future__ import annotations

from random import Random

from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_AT_DEADLINE, Campaign, Tier

PRICES = (9_900, 1_999, 100_001, 1_003)


def duration(milliseconds: int) -> Duration:
    return Duration(seconds=milliseconds // 1_000, nanos=milliseconds % 1_000 * 1_000_000)


def make_campaign(chance: Random, name: str) -> Campaign:
    """A random valid campaign."""
    first = chance.choice((2, 2, 3, 4))
    price = chance.choice(PRICES)
    tiers = [Tier(members=first, unit_price_minor=price * 9 // 10)]
    for _ in range(chance.randrange(3)):
        last = tiers[-1]
        tiers.append(
            Tier(members=last.members + chance.randint(1, 2), unit_price_minor=last.unit_price_minor * 9 // 10)
        )
    campaign = Campaign(
        name=f"campaigns/{name}",
        product="mug",
        currency="EUR",
        solo_price_minor=price,
        tiers=tiers,
        capacity=tiers[-1].members + chance.choice((0, 0, 0, 1, 3)),
        window=duration(chance.randint(120_000, 1_800_000)),
        hold_window=duration(chance.choice((20_000, 90_000, 300_000, 3_600_000))),
        waitlist=chance.random() < 0.4,
        max_quantity=chance.choice((0, 3, 5)),
        rules_version=1,
        revision=1,
    )
    # In a group that stays open though it is full, orders wait longest.
    if chance.random() < (0.5 if campaign.waitlist else 0.3):
        campaign.close_policy = CLOSE_POLICY_AT_DEADLINE
    if chance.random() < 0.3:
        campaign.house_fill_members = chance.randrange(first)
    if chance.random() < 0.4:
        campaign.leader_discount_minor = tiers[-1].unit_price_minor // 7
    if chance.random() < 0.2:
        campaign.seats_per_customer = 2
    return campaign
