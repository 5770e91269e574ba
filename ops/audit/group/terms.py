"""Frozen terms of a group, as the audit reads them, and the terms that a campaign gives.

The audit's own copy of the rule for freezing a campaign; the groups service has another one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_AT_DEADLINE, CLOSE_POLICY_WHEN_FULL, Campaign
from groupbuy.groups.v1.decisions_pb2 import Terms

DEFAULT_SEATS_PER_CUSTOMER = 1
DEFAULT_MAX_QUANTITY = 99
DEFAULT_RULES_VERSION = 1
#: The rules with stock, limits per customer, and times of the sale.
SUPPLY_RULES_VERSION = 2


class Tier(NamedTuple):
    """The price of one piece, in minor units, from this number of members on."""

    members: int
    unit_price_minor: int


class FrozenTerms:
    """Terms as plain values. Groups with equal terms share one object; `raw` is the encoded message.

    Amounts are in minor units, times in milliseconds.
    """

    __slots__ = (
        "at_deadline",
        "campaign",
        "capacity",
        "currency",
        "end_ms",
        "entry_price_minor",
        "hold_window_ms",
        "house_fill_members",
        "leader_discount_minor",
        "limit_per_customer",
        "max_quantity",
        "product",
        "raw",
        "rules_version",
        "seats_per_customer",
        "solo",
        "solo_price_minor",
        "start_ms",
        "stock",
        "tiers",
        "waitlist",
        "window_ms",
    )  # fmt: skip

    def __init__(self, raw: bytes) -> None:
        """Decodes terms. Raises DecodeError."""
        terms = Terms.FromString(raw)
        self.raw = raw
        self.campaign = terms.campaign
        self.product = terms.product
        self.currency = terms.currency
        self.solo = terms.solo
        self.solo_price_minor = terms.solo_price_minor
        self.tiers = tuple(Tier(tier.members, tier.unit_price_minor) for tier in terms.tiers)
        self.capacity = terms.capacity
        self.window_ms = terms.window_ms
        self.hold_window_ms = terms.hold_window_ms
        #: Whether the group closes at its deadline only, even when full.
        self.at_deadline = terms.close_policy == CLOSE_POLICY_AT_DEADLINE
        self.waitlist = terms.waitlist
        self.house_fill_members = terms.house_fill_members
        self.leader_discount_minor = terms.leader_discount_minor
        self.seats_per_customer = terms.seats_per_customer or DEFAULT_SEATS_PER_CUSTOMER
        self.max_quantity = terms.max_quantity or DEFAULT_MAX_QUANTITY
        self.rules_version = terms.rules_version
        #: The stock item; empty: unlimited. The times of the sale and the limit per customer; 0: none.
        self.stock = terms.stock
        self.start_ms = terms.start_ms
        self.end_ms = terms.end_ms
        self.limit_per_customer = terms.limit_per_customer
        #: The highest price of one piece; 0 for terms without a price.
        self.entry_price_minor = (
            terms.solo_price_minor if terms.solo else self.tiers[0].unit_price_minor if self.tiers else 0
        )

    def is_on_sale(self, at_ms: int) -> bool:
        """Whether a time is within the times of the sale."""
        return self.start_ms <= at_ms and not 0 < self.end_ms <= at_ms


@lru_cache(maxsize=4_096)
def frozen(raw: bytes) -> FrozenTerms:
    """The terms of an encoded message. Cached, because many groups have the same terms. Raises DecodeError."""
    return FrozenTerms(raw)


@lru_cache(maxsize=1_024)
def terms_of_campaign(raw: bytes, solo: bool) -> Terms:
    """The terms that a group of an encoded campaign has. Callers do not change the message. Raises DecodeError."""
    campaign = Campaign.FromString(raw)
    terms = Terms(
        campaign=campaign.name.removeprefix("campaigns/"),
        product=campaign.product,
        currency=campaign.currency,
        solo_price_minor=campaign.solo_price_minor,
        window_ms=_milliseconds(campaign.window),
        hold_window_ms=_milliseconds(campaign.hold_window),
        max_quantity=campaign.max_quantity or DEFAULT_MAX_QUANTITY,
        rules_version=campaign.rules_version or DEFAULT_RULES_VERSION,
        campaign_revision=campaign.revision,
    )
    if terms.rules_version >= SUPPLY_RULES_VERSION:
        terms.stock = campaign.stock.removeprefix("stocks/")
        terms.start_ms = campaign.start_time.ToMilliseconds()
        terms.end_ms = campaign.end_time.ToMilliseconds()
        terms.limit_per_customer = campaign.limit_per_customer
        terms.lease_ahead = campaign.lease_ahead
    if solo:
        terms.solo = True
        terms.capacity = terms.seats_per_customer = 1
        terms.close_policy = CLOSE_POLICY_WHEN_FULL
        return terms
    terms.tiers.extend(campaign.tiers)
    terms.capacity = campaign.capacity
    terms.close_policy = campaign.close_policy or CLOSE_POLICY_WHEN_FULL
    terms.waitlist = campaign.waitlist
    terms.house_fill_members = campaign.house_fill_members
    terms.leader_discount_minor = campaign.leader_discount_minor
    terms.seats_per_customer = campaign.seats_per_customer or DEFAULT_SEATS_PER_CUSTOMER
    return terms


def differing_fields(terms: Terms, other: Terms) -> list[str]:
    """The names of the fields in which two terms differ."""
    return [field.name for field in Terms.DESCRIPTOR.fields if getattr(terms, field.name) != getattr(other, field.name)]


def _milliseconds(duration: Duration) -> int:
    return duration.seconds * 1_000 + duration.nanos // 1_000_000
