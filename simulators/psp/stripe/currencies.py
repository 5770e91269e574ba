"""Stripe's minor units by currency, where they differ from ISO 4217, and its limits on amounts.

A copy of its own: the simulator stands for Stripe and shares no table with the adapter that it tests.
Source: https://docs.stripe.com/currencies, "Zero-decimal currencies", "Three-decimal currencies", "Special cases".
"""

from __future__ import annotations

#: Stripe accepts eight digits.
MAX_AMOUNT = 99_999_999
#: Three decimals, of which Stripe accepts the last one only as 0.
THREE_DECIMALS = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
#: Least amounts, in Stripe's minor units, of the currencies that Stripe settles in.
#: Source: https://docs.stripe.com/currencies, "Minimum and maximum charge amounts".
MINIMUMS = {
    "AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50, "GBP": 30,
    "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50, "PLN": 200,
    "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip
#: Stripe's minor units in one minor unit of ISO 4217: no decimals in ISO 4217, two at Stripe.
STRIPE_PER_ISO = {"ISK": 100, "UGX": 100}
#: Minor units of ISO 4217 in one of Stripe's: two decimals in ISO 4217, none at Stripe.
ISO_PER_STRIPE = {"MGA": 100}


def to_iso_minor(amount: int, currency: str) -> int:
    """Amount in minor units of ISO 4217 for an amount of Stripe's."""
    return amount * ISO_PER_STRIPE.get(currency, 1) // STRIPE_PER_ISO.get(currency, 1)
