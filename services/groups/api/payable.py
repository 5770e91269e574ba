"""Whether a payment provider of the installation can take a campaign: its currency, its prices, and its window.

Checked when a campaign is created or edited, and not by the rules: an opened group is decided from its own log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from services.groups.api import errors as refusals
from services.groups.domain.terms import (
    DEFAULT_MAX_QUANTITY,
    INVALID_FIELDS,
    SETTLING_MS,
    WINDOW_TOO_LONG,
    Problem,
    milliseconds,
)
from shared_kernel.payment_providers import Capabilities


def require_payable(campaign: Campaign, providers: Sequence[Capabilities]) -> None:
    """Raises ApiError with the problems at the most capable provider, unless one provider can take the campaign.

    Without providers nothing can be checked.
    """
    found = [list(problems_at(provider, campaign)) for provider in providers]
    if found and all(found):
        raise refusals.bad_terms(min(found, key=len))


def problems_at(provider: Capabilities, campaign: Campaign) -> Iterator[Problem]:
    """The reasons for which a provider can't take a valid campaign."""
    currency = campaign.currency
    if problem := provider.currency_problem(currency):
        yield Problem("currency", INVALID_FIELDS, problem)
        return
    quantity = campaign.max_quantity or DEFAULT_MAX_QUANTITY
    prices = {"solo_price_minor": campaign.solo_price_minor}
    prices |= {f"tiers[{index}].unit_price_minor": tier.unit_price_minor for index, tier in enumerate(campaign.tiers)}
    for name, price in prices.items():
        if problem := provider.amount_problem(price, currency):
            yield Problem(name, INVALID_FIELDS, problem)
    lowest = min(prices.values()) - campaign.leader_discount_minor
    if campaign.leader_discount_minor and (problem := provider.amount_problem(lowest, currency)):
        yield Problem("leader_discount_minor", INVALID_FIELDS, f"the leader's price: {problem}")
    if problem := provider.amount_problem(max(prices.values()) * quantity, currency):
        yield Problem("max_quantity", INVALID_FIELDS, problem)
    life_ms = provider.hold_life_ms()
    if life_ms and milliseconds(campaign.window) + SETTLING_MS > life_ms:
        days = f"{life_ms / 86_400_000:g}"
        yield Problem("window", WINDOW_TOO_LONG, f"must end a day before a hold at {provider.provider}: {days} days")
