"""Conversion between minor units of ISO 4217, which this system uses, and those of Stripe, which differ in places.

Nothing is rounded: an amount that Stripe can't represent raises NotRepresentable.
Source: https://docs.stripe.com/currencies, "Zero-decimal currencies", "Three-decimal currencies", "Special cases".
"""

from __future__ import annotations

#: Stripe accepts eight digits.
MAX_AMOUNT = 99_999_999
#: Three decimals, of which Stripe accepts the last one only as 0.
LAST_DIGIT_ZERO = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
#: No decimals in ISO 4217, two in Stripe's amounts, always 00.
TIMES_100 = frozenset({"ISK", "UGX"})
#: Two decimals in ISO 4217, none in Stripe's amounts.
BY_100 = frozenset({"MGA"})


class NotRepresentable(Exception):
    """Stripe can't charge this amount. The message gives the reason."""


def to_stripe(amount_minor: int, currency: str) -> int:
    """Stripe's amount for an amount in minor units of ISO 4217. Raises NotRepresentable."""
    if amount_minor <= 0:
        raise NotRepresentable(f"the amount is {amount_minor}: it must be above 0")
    if currency in LAST_DIGIT_ZERO and amount_minor % 10:
        raise NotRepresentable(f"Stripe takes amounts in {currency} in multiples of 10 minor units, not {amount_minor}")
    if currency in BY_100 and amount_minor % 100:
        raise NotRepresentable(f"Stripe takes amounts in {currency} without decimals, not {amount_minor} minor units")
    amount = amount_minor
    if currency in TIMES_100:
        amount *= 100
    elif currency in BY_100:
        amount //= 100
    if amount > MAX_AMOUNT:
        raise NotRepresentable(f"the amount has more than the eight digits that Stripe takes: {amount}")
    return amount


def from_stripe(amount: int, currency: str) -> int:
    """Amount in minor units of ISO 4217 for an amount of Stripe's."""
    if currency in TIMES_100:
        return amount // 100
    return amount * 100 if currency in BY_100 else amount
