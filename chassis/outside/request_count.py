"""Counts the requests that one call to somebody else's API makes: retries and look-ups included."""

from __future__ import annotations

from contextvars import ContextVar


class RequestCount:
    """The requests of one call."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        self.requests = 0


_COUNT: ContextVar[RequestCount | None] = ContextVar("request_count", default=None)


def begin_count() -> RequestCount:
    """Counts the requests of the current task from now on."""
    count = RequestCount()
    _COUNT.set(count)
    return count


def count_request() -> None:
    """Counts one request, if the current task counts them."""
    count = _COUNT.get()
    if count is not None:
        count.requests += 1
