"""Calls under way: how many there may be, and how those that are left are told that the process stops.

Must only be used on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.errors import NOT_READY_RETRY_MS, ApiError, Prepared

#: Milliseconds after which to call again when too many calls are under way.
OVERLOADED_RETRY_MS = 200
#: What a call is answered that is refused before anything is done for it.
OVERLOADED = Prepared(
    ApiError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors_pb2.ERROR_REASON_OVERLOADED,
        "more calls come than can be answered; call again later",
        retry_after_ms=OVERLOADED_RETRY_MS,
    )
)


class Calls:
    """Calls of one kind, `limit` at most at a time. `with calls:` around each, on the call's own task."""

    __slots__ = ("_idle", "_limit", "_tasks", "_told")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[object]] = set()
        self._told: set[asyncio.Task[object]] = set()
        self._idle: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """Whether all places are taken."""
        return len(self._tasks) >= self._limit

    def __enter__(self) -> None:
        """Raises ApiError OVERLOADED when all places are taken."""
        if self.full:
            raise ApiError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                errors_pb2.ERROR_REASON_OVERLOADED,
                f"{self._limit} calls are under way already; call again later",
                metadata={"limit": str(self._limit)},
                retry_after_ms=OVERLOADED_RETRY_MS,
            )
        self._tasks.add(_current_task())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Frees the place. A call that was told to stop leaves with ApiError NOT_READY instead of its cancellation."""
        task = _current_task()
        self._tasks.discard(task)
        if self._idle is not None and not self._tasks:
            self._idle.set()
        if task not in self._told:
            return
        self._told.discard(task)
        if isinstance(error, asyncio.CancelledError):
            task.uncancel()
            raise ApiError(
                grpc.StatusCode.UNAVAILABLE,
                errors_pb2.ERROR_REASON_NOT_READY,
                "the service is stopping; call again",
                retry_after_ms=NOT_READY_RETRY_MS,
            ) from None

    async def idle(self) -> None:
        """Returns once no call is under way."""
        self._idle = asyncio.Event()
        if self._tasks:
            await self._idle.wait()

    def tell(self) -> None:
        """Ends every call under way; its caller is told to call again."""
        for task in self._tasks - self._told:
            self._told.add(task)
            task.cancel()


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
