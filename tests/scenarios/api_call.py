"""The context of a call, for servicers that are called without a server."""

from __future__ import annotations

from typing import Any


class CallContext:
    """The part of a context that servicers use. None: a call without a deadline."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


def call(seconds: float | None = 5.0) -> Any:
    """A context of any service's type."""
    return CallContext(seconds)
