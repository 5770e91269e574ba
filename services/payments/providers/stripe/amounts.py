"""Conversion between minor units of ISO 4217, which this system uses, and those of Stripe, which differ in places.

Nothing is rounded: an amount that Stripe can't represent raises NotRepresentable.
Source: https://docs.stripe.com/currencies, "Zero-decimal currencies", "Three-decimal currencies", "Special cases".
"""

from __future__ import annotations

from shared_kernel.payment_providers import CAPABILITIES, STRIPE

_STRIPE = CAPABILITIES[STRIPE]


class NotRepresentable(Exception):
    """Stripe can't charge this amount. The message gives the reason."""


def to_stripe(amount_minor: int, currency: str, *, part: bool = False) -> int:
    """Stripe's amount for an amount in minor units of ISO 4217. Raises NotRepresentable.

    `part`: the amount is captured or refunded of a charge that exists.
    """
    if problem := _STRIPE.amount_problem(amount_minor, currency, part=part):
        raise NotRepresentable(problem)
    above, below = _STRIPE.units.get(currency, (1, 1))
    return amount_minor * above // below


def from_stripe(amount: int, currency: str) -> int:
    """Amount in minor units of ISO 4217 for an amount of Stripe's."""
    above, below = _STRIPE.units.get(currency, (1, 1))
    return amount * below // above
