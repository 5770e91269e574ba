"""The error of a day that did not come to its end."""

from __future__ import annotations


class DayFailed(Exception):
    """A step of the day did not lead to what it has to."""
