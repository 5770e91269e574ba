"""Errors of the payment rules. The kernel turns an error raised while deciding into a `GroupPaymentsFaulted` event.

Applying an event raises none of them.
"""

from __future__ import annotations


class Impossible(Exception):
    """An input contradicts the state, so deciding on it could lose money. An operator investigates."""


class AmountOutOfRange(Impossible):
    """An amount is negative or exceeds 64 bits, the width of an amount in the log."""


class UnknownInput(ValueError):
    """An input or a decision of a kind that this build does not know. Deploy a build that does; nothing is skipped."""
