"""Terms of a group: validation of a campaign, the frozen copy in the log, and the form that the rules read.

The same validation runs when a campaign is created and when an order opens a group of it. It depends on the campaign
alone: an opened group is decided from its own log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.groups.v1 import campaigns_pb2, decisions_pb2
from groupbuy.groups.v1.campaigns_pb2 import Campaign

from shared_kernel.currencies import CURRENCIES

MAX_SEATS = 2_000
MAX_TIERS = 20
MAX_SEATS_PER_CUSTOMER = 100
MAX_QUANTITY = 10_000
MAX_PRICE_MINOR = 10**12
MAX_AMOUNT_MINOR = 2**63 - 1
DAY_MS = 86_400_000
#: The shortest time for which a provider keeps an authorisation capturable.
MIN_HOLD_MS = 7 * DAY_MS
#: A hold has to outlast the deadline by this time, so that settlement survives an outage of one day.
SETTLING_MS = DAY_MS
MIN_WINDOW_MS = 100
#: The end of the year 9999.
MAX_TIME_MS = 253_402_300_799_999
_STOCK = re.compile(r"(stocks/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?")
MAX_HOLD_WINDOW_MS = DAY_MS
DEFAULT_SEATS_PER_CUSTOMER = 1
DEFAULT_MAX_QUANTITY = 99
#: Versions of the rules in this build. A change of the decisions gets a new version; open groups keep theirs.
RULES_VERSIONS = frozenset({1, 2})
DEFAULT_RULES_VERSION = 1
#: The version with stock, limits per customer, and times of start and end.
SUPPLY_RULES_VERSION = 2

INVALID_FIELDS = "INVALID_FIELDS"
TIERS_NOT_MONOTONIC = "TIERS_NOT_MONOTONIC"
WINDOW_TOO_LONG = "WINDOW_TOO_LONG"
AMOUNT_OVERFLOW = "AMOUNT_OVERFLOW"


class UnknownRules(ValueError):
    """A rules_version that this build does not know. Deploy a newer build."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One violation of the rules for campaigns."""

    #: Path within Campaign.
    field: str
    #: Name of a groupbuy.errors.v1.ErrorReason without its prefix.
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Tier:
    """The price of one piece, in minor units, from this number of members on."""

    members: int
    unit_price_minor: int


@dataclass(frozen=True, slots=True)
class Terms:
    """Frozen terms. Groups with equal terms share one object; `raw` is the encoded message."""

    raw: bytes
    campaign: str
    currency: str
    tiers: tuple[Tier, ...]
    #: The highest price of one piece for a member, in minor units: the first tier's price or the solo price.
    entry_price_minor: int
    capacity: int
    window_ms: int
    hold_window_ms: int
    closes_when_full: bool
    waitlist: bool
    house_fill_members: int
    leader_discount_minor: int
    seats_per_customer: int
    max_quantity: int
    rules_version: int
    solo: bool
    #: Id of the stock item; empty: unlimited.
    stock: str = ""
    #: Times of start and end, in milliseconds since the epoch; 0: none.
    start_ms: int = 0
    end_ms: int = 0
    #: Pieces over all groups of the campaign; 0: no limit.
    limit_per_customer: int = 0
    #: Pieces for orders that have not come yet.
    lease_ahead: int = 0


@lru_cache(maxsize=4_096)
def terms_of(raw: bytes) -> Terms:
    """Decodes terms. Raises UnknownRules."""
    terms = decisions_pb2.Terms.FromString(raw)
    if terms.rules_version not in RULES_VERSIONS:
        raise UnknownRules(f"rules_version {terms.rules_version}")
    return Terms(
        raw=raw,
        campaign=terms.campaign,
        currency=terms.currency,
        tiers=tuple(Tier(tier.members, tier.unit_price_minor) for tier in terms.tiers),
        entry_price_minor=terms.solo_price_minor if terms.solo else terms.tiers[0].unit_price_minor,
        capacity=terms.capacity,
        window_ms=terms.window_ms,
        hold_window_ms=terms.hold_window_ms,
        closes_when_full=terms.close_policy != campaigns_pb2.CLOSE_POLICY_AT_DEADLINE,
        waitlist=terms.waitlist,
        house_fill_members=terms.house_fill_members,
        leader_discount_minor=terms.leader_discount_minor,
        seats_per_customer=terms.seats_per_customer,
        max_quantity=terms.max_quantity,
        rules_version=terms.rules_version,
        solo=terms.solo,
        stock=terms.stock,
        start_ms=terms.start_ms,
        end_ms=terms.end_ms,
        limit_per_customer=terms.limit_per_customer,
        lease_ahead=terms.lease_ahead,
    )


def needs_supply_rules(campaign: Campaign) -> bool:
    """Whether groups of the campaign can only be decided by SUPPLY_RULES_VERSION or a later one."""
    return bool(
        campaign.stock
        or campaign.limit_per_customer
        or campaign.lease_ahead
        or campaign.HasField("start_time")
        or campaign.HasField("end_time")
    )


def freeze(campaign: Campaign, solo: bool) -> decisions_pb2.Terms:
    """The terms for GroupOpened, with defaults filled in. The campaign has to be valid.

    A solo purchase is a group with a capacity of one at the solo price, without tiers. The policy for failed captures
    is left out: these rules keep the price, and builds that do not know the field freeze the same bytes.
    """
    rules_version = campaign.rules_version or DEFAULT_RULES_VERSION
    if rules_version not in RULES_VERSIONS:
        raise UnknownRules(f"rules_version {rules_version}")
    terms = decisions_pb2.Terms(
        campaign=campaign.name.removeprefix("campaigns/"),
        product=campaign.product,
        currency=campaign.currency,
        solo_price_minor=campaign.solo_price_minor,
        capacity=1,
        window_ms=milliseconds(campaign.window),
        hold_window_ms=milliseconds(campaign.hold_window),
        close_policy=campaigns_pb2.CLOSE_POLICY_WHEN_FULL,
        seats_per_customer=1,
        max_quantity=campaign.max_quantity or DEFAULT_MAX_QUANTITY,
        rules_version=rules_version,
        solo=solo,
        campaign_revision=campaign.revision,
    )
    if not solo:
        terms.tiers.extend(campaign.tiers)
        terms.capacity = campaign.capacity
        terms.close_policy = campaign.close_policy or campaigns_pb2.CLOSE_POLICY_WHEN_FULL
        terms.waitlist = campaign.waitlist
        terms.house_fill_members = campaign.house_fill_members
        terms.leader_discount_minor = campaign.leader_discount_minor
        terms.seats_per_customer = campaign.seats_per_customer or DEFAULT_SEATS_PER_CUSTOMER
    if rules_version >= SUPPLY_RULES_VERSION:
        terms.stock = campaign.stock.removeprefix("stocks/")
        terms.start_ms = time_ms(campaign.start_time)
        terms.end_ms = time_ms(campaign.end_time)
        terms.limit_per_customer = campaign.limit_per_customer
        terms.lease_ahead = campaign.lease_ahead
    return terms


def milliseconds(duration: Duration) -> int:
    """A Duration in whole milliseconds, rounded down."""
    return duration.seconds * 1_000 + duration.nanos // 1_000_000


def time_ms(time: Timestamp) -> int:
    """A Timestamp in whole milliseconds since the epoch, rounded down."""
    return time.seconds * 1_000 + time.nanos // 1_000_000


def problems(campaign: Campaign) -> list[Problem]:
    """All problems of a campaign's terms. Empty if orders can open groups of it."""
    found = [*_ranges(campaign), *_ladder(campaign), *_times(campaign), *_amounts(campaign)]
    return [*found, *_supply(campaign)] if needs_supply_rules(campaign) else found


def _ranges(campaign: Campaign) -> Iterator[Problem]:
    if campaign.currency not in CURRENCIES:
        yield Problem("currency", INVALID_FIELDS, f"{campaign.currency!r} is not an ISO 4217 currency")
    if not campaign.product:
        yield Problem("product", INVALID_FIELDS, "is empty")
    bounds = {
        "solo_price_minor": (1, MAX_PRICE_MINOR),
        "capacity": (2, MAX_SEATS),
        "seats_per_customer": (0, MAX_SEATS_PER_CUSTOMER),
        "max_quantity": (0, MAX_QUANTITY),
        "house_fill_members": (0, MAX_SEATS),
        "leader_discount_minor": (0, MAX_PRICE_MINOR),
        "rules_version": (0, 2**31 - 1),
    }
    for name, (minimum, maximum) in bounds.items():
        if not minimum <= getattr(campaign, name) <= maximum:
            yield Problem(name, INVALID_FIELDS, f"must lie between {minimum} and {maximum}")
    if campaign.close_policy not in campaigns_pb2.ClosePolicy.values():
        yield Problem("close_policy", INVALID_FIELDS, f"{campaign.close_policy} is not a close policy")
    if campaign.failed_capture_policy not in campaigns_pb2.FailedCapturePolicy.values():
        policy = campaign.failed_capture_policy
        yield Problem("failed_capture_policy", INVALID_FIELDS, f"{policy} is not a policy; the only one is KEEP_PRICE")


def _ladder(campaign: Campaign) -> Iterator[Problem]:
    tiers = campaign.tiers
    if not 1 <= len(tiers) <= MAX_TIERS:
        yield Problem("tiers", INVALID_FIELDS, f"must be 1 to {MAX_TIERS}")
        return
    for index, tier in enumerate(tiers):
        if tier.members < 2:
            yield Problem(f"tiers[{index}].members", INVALID_FIELDS, "must be at least 2")
        if not 1 <= tier.unit_price_minor <= MAX_PRICE_MINOR:
            yield Problem(f"tiers[{index}].unit_price_minor", INVALID_FIELDS, f"must lie in 1 to {MAX_PRICE_MINOR}")
        if tier.unit_price_minor >= campaign.solo_price_minor:
            yield Problem(f"tiers[{index}].unit_price_minor", TIERS_NOT_MONOTONIC, "must be below the solo price")
    for index, (before, after) in enumerate(pairwise(tiers), start=1):
        if after.members <= before.members:
            yield Problem(
                f"tiers[{index}].members", TIERS_NOT_MONOTONIC, "must be more than the members of the tier before"
            )
        if after.unit_price_minor >= before.unit_price_minor:
            yield Problem(
                f"tiers[{index}].unit_price_minor", TIERS_NOT_MONOTONIC, "must be below the price of the tier before"
            )
    if campaign.capacity < max(tier.members for tier in tiers):
        yield Problem("capacity", INVALID_FIELDS, "must be at least the members of the last tier")
    if campaign.house_fill_members >= tiers[0].members:
        yield Problem("house_fill_members", INVALID_FIELDS, "must be fewer than the members of the first tier")
    if campaign.leader_discount_minor >= min(tier.unit_price_minor for tier in tiers):
        yield Problem("leader_discount_minor", INVALID_FIELDS, "must be below every tier's price")


def _times(campaign: Campaign) -> Iterator[Problem]:
    window_ms = milliseconds(campaign.window)
    if window_ms < MIN_WINDOW_MS:
        yield Problem("window", INVALID_FIELDS, f"must be at least {MIN_WINDOW_MS} ms")
    if window_ms + SETTLING_MS >= MIN_HOLD_MS:
        yield Problem(
            "window", WINDOW_TOO_LONG, "must end a day before the shortest hold of a provider, which lasts 7 days"
        )
    if not MIN_WINDOW_MS <= milliseconds(campaign.hold_window) <= MAX_HOLD_WINDOW_MS:
        yield Problem("hold_window", INVALID_FIELDS, f"must lie in {MIN_WINDOW_MS} ms to 24 h")


def _supply(campaign: Campaign) -> Iterator[Problem]:
    if campaign.rules_version < SUPPLY_RULES_VERSION:
        yield Problem("rules_version", INVALID_FIELDS, "knows no stock, limit, start or end")
    if not _STOCK.fullmatch(campaign.stock):
        yield Problem("stock", INVALID_FIELDS, "is not the name of a stock item")
    if not 0 <= campaign.limit_per_customer <= MAX_QUANTITY:
        yield Problem("limit_per_customer", INVALID_FIELDS, f"must lie between 0 and {MAX_QUANTITY}")
    if not 0 <= campaign.lease_ahead <= MAX_SEATS:
        yield Problem("lease_ahead", INVALID_FIELDS, f"must lie between 0 and {MAX_SEATS}")
    if campaign.lease_ahead and not campaign.stock:
        yield Problem("lease_ahead", INVALID_FIELDS, "needs a stock item")
    for name in ("start_time", "end_time"):
        if campaign.HasField(name) and not 0 < time_ms(getattr(campaign, name)) <= MAX_TIME_MS:
            yield Problem(name, INVALID_FIELDS, "is not a time between 1970 and 9999")
    if campaign.HasField("start_time") and campaign.HasField("end_time"):
        start_ms, end_ms = time_ms(campaign.start_time), time_ms(campaign.end_time)
        if end_ms - start_ms < MIN_WINDOW_MS:
            yield Problem("end_time", INVALID_FIELDS, f"must be at least {MIN_WINDOW_MS} ms after the start")


def _amounts(campaign: Campaign) -> Iterator[Problem]:
    highest = max([campaign.solo_price_minor, *(tier.unit_price_minor for tier in campaign.tiers)])
    if highest * (campaign.max_quantity or DEFAULT_MAX_QUANTITY) * MAX_SEATS > MAX_AMOUNT_MINOR:
        yield Problem(
            "max_quantity", AMOUNT_OVERFLOW, f"the amount of {MAX_SEATS} orders of this quantity exceeds 64 bits"
        )
