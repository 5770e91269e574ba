"""Checks an order's payment method at the edge: it needs a provider of this installation that can take its amounts.

The adapter checks the amount of each call again. A retry of a placed order is not checked again.
"""

from __future__ import annotations

from collections.abc import Iterable

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest

from chassis.rpc.validation import invalid_field
from shared_kernel.payment_providers import (
    CAPABILITIES,
    DAY_MS,
    PREFIXES,
    SALE_PREFIX,
    Capabilities,
    masked,
    provider_of,
)

FIELD = "payment_method"
#: A hold has to outlast the group's deadline by this time, as the rules of groups require.
SETTLING_MS = DAY_MS


class PaymentMethods:
    """The payment methods that an installation accepts."""

    def __init__(self, providers: Iterable[str]) -> None:
        """`providers` are the names of the installation's providers."""
        self._providers = frozenset(providers)
        self._prefixes = ", ".join(f"{one}_" for one, name in sorted(PREFIXES.items()) if name in self._providers)

    def check(self, request: PlaceOrderRequest) -> Capabilities:
        """The capabilities of a method's provider. Raises ApiError INVALID_FIELDS if it has none here."""
        method = request.payment_method
        name = provider_of(method)
        if name not in self._providers:
            problem = f"{masked(method)} belongs to no payment provider here: a payment method begins with "
            raise invalid_field(FIELD, problem + (f"one of {self._prefixes}" if self._prefixes else "a known prefix"))
        provider = CAPABILITIES[name]
        if not provider.holds and not method.startswith(SALE_PREFIX):
            raise invalid_field(FIELD, f"{name} can't hold money: its payment methods begin with {SALE_PREFIX}{name}_")
        return provider

    def check_opening(self, request: PlaceOrderRequest, campaign: Campaign) -> None:
        """Checks an order that opens a group at a campaign's terms. Raises ApiError INVALID_FIELDS."""
        provider = self.check(request)
        _check_currency(provider, campaign.currency)
        if campaign.solo_price_minor and request.solo:
            prices = [campaign.solo_price_minor]
        else:
            prices = [tier.unit_price_minor for tier in campaign.tiers]
        for price in prices:
            if problem := provider.amount_problem(price * request.quantity, campaign.currency):
                raise invalid_field(FIELD, problem)
        life_ms = provider.hold_life_ms()
        if life_ms and not request.solo and campaign.window.ToMilliseconds() + SETTLING_MS > life_ms:
            raise invalid_field(FIELD, f"a hold at {provider.provider} may end before the group is settled")

    def check_joining(self, request: PlaceOrderRequest, currency: str) -> None:
        """Checks an order that joins a group in a currency. The group's own terms have the prices. Raises ApiError."""
        _check_currency(self.check(request), currency)


def _check_currency(provider: Capabilities, currency: str) -> None:
    if problem := provider.currency_problem(currency):
        raise invalid_field(FIELD, problem)
