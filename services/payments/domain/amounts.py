"""The one guard that every amount passes on its way into an event. Must never round, and never see a float."""

from __future__ import annotations

from services.payments.domain.errors import AmountOutOfRange

#: The most that the log can hold, in minor units.
MAX_MINOR = (1 << 63) - 1


def minor(amount: int) -> int:
    """The amount itself, in minor units. Raises AmountOutOfRange."""
    if 0 <= amount <= MAX_MINOR:
        return amount
    raise AmountOutOfRange(f"{amount} is not an amount of minor units")
