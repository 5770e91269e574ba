"""Formats amounts in minor units for people."""

from __future__ import annotations

from shared_kernel.currencies import decimal_text

_SIGNS = {"CNY": "¥", "JPY": "JP¥", "USD": "$", "EUR": "€", "GBP": "£"}


def amount(minor: int, currency: str) -> str:
    """`8900, CNY` -> `¥89.00`. A currency without a sign of its own follows the number."""
    text = decimal_text(abs(minor), currency)
    sign = _SIGNS.get(currency)
    text = f"{sign}{text}" if sign else f"{text} {currency}".rstrip()
    return f"-{text}" if minor < 0 else text
