"""What the rules raise: an input that can't be true. The kernel turns it into a decision, `PurseFaulted`.

Must only be raised by deciding. Applying an event never raises.
"""

from __future__ import annotations


class Impossible(Exception):
    """An input contradicts what is known, so deciding on it could lose money. A person looks into it."""


class AmountOutOfRange(Impossible):
    """An amount is negative, or does not fit the 64 bits that the log has for it."""


class UnknownInput(ValueError):
    """An input or a decision of a kind that this build does not know. Deploy one that does: nothing may be skipped."""
