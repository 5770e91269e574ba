"""Calls in flight: how many there may be, and how they end: as the process stops, or as the caller loses access.

To be used on the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.rpc.caller import identity
from chassis.rpc.errors import NOT_READY_RETRY_MS, ApiError, Prepared

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


_STOPPING = ApiError(
    grpc.StatusCode.UNAVAILABLE,
    errors_pb2.ERROR_REASON_NOT_READY,
    "the service is stopping; call again",
    retry_after_ms=NOT_READY_RETRY_MS,
)

W = TypeVar("W")


#: Part of all places that one identity leaves to the others.
LEFT_TO_OTHERS = 5


class Calls(Generic[W]):
    """Calls of one kind, `limit` at most at a time. `with calls.of(who):` around each, on the call's own task.

    One identity has four fifths of the places at most.
    """

    __slots__ = ("_by_identity", "_idle", "_limit", "_share", "_tasks", "_told")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = limit - limit // LEFT_TO_OTHERS
        self._by_identity: dict[str, int] = {}
        self._tasks: dict[asyncio.Task[object], W] = {}
        self._told: dict[asyncio.Task[object], ApiError] = {}
        self._idle: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """Whether all places are taken."""
        return len(self._tasks) >= self._limit

    def of(self, who: W) -> Place[W]:
        """A place for as long as the block lasts."""
        return Place(self, who)

    def take(self, who: W) -> None:
        """See Place."""
        if self.full:
            raise ApiError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                errors_pb2.ERROR_REASON_OVERLOADED,
                f"{self._limit} calls are under way already; call again later",
                metadata={"limit": str(self._limit)},
                retry_after_ms=OVERLOADED_RETRY_MS,
            )
        name = identity()
        if name:
            taken = self._by_identity.get(name, 0)
            if taken >= self._share:
                raise ApiError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    errors_pb2.ERROR_REASON_OVERLOADED,
                    f"{self._share} calls of {name} are under way already; call again later",
                    metadata={"limit": str(self._share), "identity": name},
                    retry_after_ms=OVERLOADED_RETRY_MS,
                )
            self._by_identity[name] = taken + 1
        self._tasks[_current_task()] = who

    def give(self, error: BaseException | None) -> None:
        """See Place."""
        task = _current_task()
        del self._tasks[task]
        name = identity()
        if name:
            self._by_identity[name] -= 1
        if self._idle is not None and not self._tasks:
            self._idle.set()
        why = self._told.pop(task, None)
        if why is not None and isinstance(error, asyncio.CancelledError):
            task.uncancel()
            # A copy: one error raised by thousands of tasks would hold all of their frames.
            raise ApiError(
                why.code, why.reason, why.message, metadata=why.metadata, retry_after_ms=why.retry_after_ms
            ) from None

    async def idle(self) -> None:
        """Returns once no call is in flight."""
        self._idle = asyncio.Event()
        if self._tasks:
            await self._idle.wait()

    def tell(self) -> None:
        """Ends every call in flight; its caller is told to call again."""
        for task in self._tasks.keys() - self._told.keys():
            self._end(task, _STOPPING)

    def end(self, judge: Callable[[W], ApiError | None]) -> int:
        """Ends the calls for which `judge` has a reason, and returns how many. It is asked once for each different
        `who`."""
        refused = {who: why for who in set(self._tasks.values()) if (why := judge(who)) is not None}
        found = [task for task, who in self._tasks.items() if who in refused and task not in self._told]
        for task in found:
            self._end(task, refused[self._tasks[task]])
        return len(found)

    def end_one(self, task: asyncio.Task[object], why: ApiError) -> bool:
        """Ends a call with a reason, where it is in flight; returns whether it was."""
        if task in self._tasks and task not in self._told:
            self._end(task, why)
            return True
        return False

    def _end(self, task: asyncio.Task[object], why: ApiError) -> None:
        self._told[task] = why
        task.cancel()


class Place(Generic[W]):
    """The place of one call."""

    __slots__ = ("_calls", "_who")

    def __init__(self, calls: Calls[W], who: W) -> None:
        self._calls = calls
        self._who = who

    def __enter__(self) -> None:
        """Raises ApiError OVERLOADED when all places are taken."""
        self._calls.take(self._who)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Frees the place. A call that was ended leaves with the reason, an ApiError, instead of its cancellation."""
        self._calls.give(error)


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
