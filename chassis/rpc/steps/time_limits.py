"""Time limits of the phases of a call: reading its request, handling it, and the peer's reading of the response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.admission.call_phases import CallPhase, Task
from chassis.admission.calls_in_flight import OVERLOADED_RETRY_MS
from chassis.admission.load_shedder import LoadShedder
from chassis.admission.reset_floods import ResetFloods
from chassis.rpc import validation
from chassis.rpc.errors import ApiError
from chassis.rpc.steps.handlers import Context

#: Seconds in which the request of a call must arrive, whatever the caller's deadline.
REQUEST_S = 10.0
#: Seconds that a unary call may take in all. A later deadline is cut.
MAX_S = 65.0
#: Seconds in which the peer must read a unary response, or the next message of a stream.
UNREAD_S = 30.0

#: Ends one call with an error; returns False if it is not in flight.
EndCall = Callable[[Task, ApiError], bool]


class TimeLimits:
    """The calls in each phase. A call begins with its handler and ends with its task.

    The task may outlive the handler by long: the peer may leave the response unread.
    """

    def __init__(
        self, max_calls: int, max_streams: int, shedder: LoadShedder, end_call: EndCall, end_stream: EndCall
    ) -> None:
        self._shedder = shedder
        self._end_call = end_call
        self._end_stream = end_stream
        in_all = max_calls + max_streams
        #: Calls whose request has not arrived.
        self.reading = CallPhase(max_calls, REQUEST_S, self._request_overdue)
        #: Unary calls, from begin to end.
        self.handling = CallPhase(in_all, MAX_S, self._call_overdue)
        #: Calls whose response the peer has not read; streams whose next message it has not read.
        self.unread_responses = CallPhase(in_all, UNREAD_S, self._response_unread)
        self.unread_messages = CallPhase(in_all, UNREAD_S, self._message_unread)
        self.floods = ResetFloods()
        #: Calls cancelled by `_request_overdue`.
        self.overdue_requests: set[Task] = set()
        #: Peers that leave responses unread. In gRPC only the end of the connection ends such a call.
        self.unresponsive_peers: set[str] = set()

    def begin(self, *, bounded: bool = True) -> Task:
        """Begins the call of the current task. `bounded` limits it to MAX_S."""
        task: Task | None = asyncio.current_task()
        assert task is not None
        self._shedder.begin()
        if bounded:
            self.handling.enter(task)
        task.add_done_callback(self._end)
        return task

    async def read(self, task: Task, context: Context) -> Any:
        """Reads the one request of a call. Raises ApiError INVALID_FIELDS if it does not arrive in time."""
        self.reading.enter(task)
        try:
            return await context.read()
        except asyncio.CancelledError:
            if task not in self.overdue_requests:
                self.floods.dead(context.peer())
                raise
            self.overdue_requests.discard(task)
            task.uncancel()
            message = f"the request did not arrive within {REQUEST_S:g} s"
            raise validation.invalid_field("", message) from None
        finally:
            self.reading.leave(task)

    def answering(self, task: Task, context: Context) -> None:
        """Begins the time in which the peer has to read the response."""
        self.unread_responses.enter(task, context)
        if self.floods:
            self.floods.answered(context.peer())

    def sweep(self) -> int:
        """Ends the overdue calls and returns their number. Call it every second."""
        phases = (self.reading, self.handling, self.unread_responses, self.unread_messages)
        return sum(phase.sweep() for phase in phases)

    def _end(self, task: Task) -> None:
        self._shedder.end()
        self.handling.leave(task)
        self.unread_responses.leave(task)
        self.overdue_requests.discard(task)

    def _request_overdue(self, task: Task, _: object) -> None:
        self.overdue_requests.add(task)
        task.cancel()

    def _call_overdue(self, task: Task, _: object) -> None:
        # A call that is not in flight is still reading or unread: other limits apply to it.
        self._end_call(task, _took_too_long())

    def _message_unread(self, task: Task, _: object) -> None:
        self._end_stream(task, _not_read())

    def _response_unread(self, _task: Task, context: Context) -> None:
        self.unresponsive_peers.add(context.peer())


def _took_too_long() -> ApiError:
    return ApiError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ANSWER_PENDING,
        f"no call may take longer than {MAX_S:g} s; the request may still take effect",
    )


def _not_read() -> ApiError:
    return ApiError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors_pb2.ERROR_REASON_OVERLOADED,
        f"nothing was read from this stream for {UNREAD_S:g} s; open another one",
        retry_after_ms=OVERLOADED_RETRY_MS,
    )
