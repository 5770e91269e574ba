"""The calls in flight: their limit, each identity's share, and how the server ends them early.

Used on the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.rpc.caller import current_identity
from chassis.rpc.errors import NOT_READY_RETRY_MS, ApiError, PreparedError

#: Milliseconds after which a caller retries when the server is at capacity.
OVERLOADED_RETRY_MS = 200
#: The error of a call that is refused before any work is done for it.
OVERLOADED = PreparedError(
    ApiError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors_pb2.ERROR_REASON_OVERLOADED,
        "the service is at capacity; retry later",
        retry_after_ms=OVERLOADED_RETRY_MS,
    )
)
#: One identity leaves this part of the limit, a fifth, to the others.
RESERVED_PART = 5

_STOPPING = ApiError(
    grpc.StatusCode.UNAVAILABLE,
    errors_pb2.ERROR_REASON_NOT_READY,
    "the service is stopping; retry",
    retry_after_ms=NOT_READY_RETRY_MS,
)

C = TypeVar("C")


class CallsInFlight(Generic[C]):
    """Calls of one kind, at most `limit` at a time and at most four fifths of that for one identity.

    Each call runs in `with calls.slot(call):` on its own task. `call` describes it to `end_where`.
    """

    __slots__ = ("_by_identity", "_end_reasons", "_idle", "_limit", "_share", "_tasks")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = limit - limit // RESERVED_PART
        self._by_identity: dict[str, int] = {}
        self._tasks: dict[asyncio.Task[object], C] = {}
        #: Reasons of the calls that were cancelled and have not left yet.
        self._end_reasons: dict[asyncio.Task[object], ApiError] = {}
        self._idle: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def limit(self) -> int:
        """Calls that may be in flight at a time."""
        return self._limit

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return len(self._tasks) >= self._limit

    def slot(self, call: C) -> Slot[C]:
        """A context manager that holds one slot for the current task."""
        return Slot(self, call)

    def enter(self, call: C) -> None:
        """Takes a slot for the current task. Raises ApiError OVERLOADED at capacity."""
        if self.full:
            raise ApiError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                errors_pb2.ERROR_REASON_OVERLOADED,
                f"{self._limit} calls are in flight; retry later",
                metadata={"limit": str(self._limit)},
                retry_after_ms=OVERLOADED_RETRY_MS,
            )
        identity = current_identity()
        if identity:
            in_flight = self._by_identity.get(identity, 0)
            if in_flight >= self._share:
                raise ApiError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    errors_pb2.ERROR_REASON_OVERLOADED,
                    f"{self._share} calls of {identity} are in flight; retry later",
                    metadata={"limit": str(self._share), "identity": identity},
                    retry_after_ms=OVERLOADED_RETRY_MS,
                )
            self._by_identity[identity] = in_flight + 1
        self._tasks[_current_task()] = call

    def leave(self, error: BaseException | None) -> None:
        """Frees the slot of the current task. If the server ended the call, raises the reason in place of `error`."""
        task = _current_task()
        del self._tasks[task]
        identity = current_identity()
        if identity:
            self._by_identity[identity] -= 1
        if self._idle is not None and not self._tasks:
            self._idle.set()
        reason = self._end_reasons.pop(task, None)
        if reason is not None and isinstance(error, asyncio.CancelledError):
            task.uncancel()
            # A copy: one error raised by thousands of tasks would hold all of their frames.
            raise ApiError(
                reason.code,
                reason.reason,
                reason.message,
                metadata=reason.metadata,
                retry_after_ms=reason.retry_after_ms,
            ) from None

    async def wait_idle(self) -> None:
        """Returns once no call is in flight."""
        self._idle = asyncio.Event()
        if self._tasks:
            await self._idle.wait()

    def end_all(self) -> None:
        """Ends every call in flight with UNAVAILABLE, so that the caller retries."""
        for task in self._tasks.keys() - self._end_reasons.keys():
            self._end(task, _STOPPING)

    def end_where(self, judge: Callable[[C], ApiError | None]) -> int:
        """Ends the calls for which `judge` returns a reason, and returns their number.

        Calls `judge` once for each different `call`.
        """
        refused = {call: reason for call in set(self._tasks.values()) if (reason := judge(call)) is not None}
        found = [task for task, call in self._tasks.items() if call in refused and task not in self._end_reasons]
        for task in found:
            self._end(task, refused[self._tasks[task]])
        return len(found)

    def end_one(self, task: asyncio.Task[object], reason: ApiError) -> bool:
        """Ends one call. Returns False if it is not in flight or already ended."""
        if task in self._tasks and task not in self._end_reasons:
            self._end(task, reason)
            return True
        return False

    def _end(self, task: asyncio.Task[object], reason: ApiError) -> None:
        self._end_reasons[task] = reason
        task.cancel()


class Slot(Generic[C]):
    """The slot of one call."""

    __slots__ = ("_call", "_calls")

    def __init__(self, calls: CallsInFlight[C], call: C) -> None:
        self._calls = calls
        self._call = call

    def __enter__(self) -> None:
        """Raises ApiError OVERLOADED at capacity."""
        self._calls.enter(self._call)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Frees the slot. A call that the server ended raises the reason, an ApiError, in place of CancelledError."""
        self._calls.leave(error)


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
