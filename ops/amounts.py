"""Formats amounts in minor units for people."""

from __future__ import annotations

_SIGNS = {"CNY": "¥", "JPY": "JP¥", "USD": "$", "EUR": "€", "GBP": "£"}
_EXPONENTS = {"JPY": 0, "KRW": 0, "VND": 0, "KWD": 3, "BHD": 3}


def amount(minor: int, currency: str) -> str:
    """`8900, CNY` -> `¥89.00`. A currency without a sign of its own follows the number."""
    exponent = _EXPONENTS.get(currency, 2)
    whole, rest = divmod(abs(minor), 10**exponent)
    text = f"{whole:,}" + (f".{rest:0{exponent}d}" if exponent else "")
    sign = _SIGNS.get(currency)
    text = f"{sign}{text}" if sign else f"{text} {currency}".rstrip()
    return f"-{text}" if minor < 0 else text
