"""Amounts as Stripe wants them: its minor units are not everywhere those of ISO 4217, which all of our amounts are in.

Must never round: an amount that Stripe can't represent is refused, with the reason.
Source: https://docs.stripe.com/currencies, "Zero-decimal currencies", "Three-decimal currencies", "Special cases".
"""

from __future__ import annotations

#: Stripe takes at most eight digits.
MAX = 99_999_999
#: Three decimals, but Stripe takes the last one only as 0.
TENS = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
#: ISO 4217 knows no decimals, Stripe's amounts have two, as 00.
TIMES_100 = frozenset({"ISK", "UGX"})
#: ISO 4217 knows two decimals, Stripe none.
BY_100 = frozenset({"MGA"})


class NotRepresentable(Exception):
    """Stripe can't charge this amount. The message says why."""


def to_stripe(amount_minor: int, currency: str) -> int:
    """Our minor units in Stripe's. Raises NotRepresentable."""
    if amount_minor <= 0:
        raise NotRepresentable(f"the amount is {amount_minor}: it must be above 0")
    if currency in TENS and amount_minor % 10:
        raise NotRepresentable(f"Stripe takes amounts in {currency} in multiples of 10 minor units, not {amount_minor}")
    if currency in BY_100 and amount_minor % 100:
        raise NotRepresentable(f"Stripe takes amounts in {currency} without decimals, not {amount_minor} minor units")
    amount = amount_minor
    if currency in TIMES_100:
        amount *= 100
    elif currency in BY_100:
        amount //= 100
    if amount > MAX:
        raise NotRepresentable(f"the amount has more than the eight digits that Stripe takes: {amount}")
    return amount


def from_stripe(amount: int, currency: str) -> int:
    """Stripe's minor units in ours."""
    if currency in TIMES_100:
        return amount // 100
    return amount * 100 if currency in BY_100 else amount
