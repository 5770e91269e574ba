"""Answers a call with an error: any exception becomes a google.rpc.Status in the trailing metadata."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.admission.calls_in_flight import OVERLOADED
from chassis.rpc.errors import PREVIOUS_ATTEMPTS, ApiError, to_api_error, trailing_metadata
from chassis.rpc.steps.handlers import Context


async def abort_overloaded(context: Context) -> None:
    """Aborts a call at capacity, at the lowest cost. Raises AbortError."""
    error = OVERLOADED.error
    await context.abort(error.code, error.message, OVERLOADED.trailing_metadata(context.time_remaining()))


async def answer_with(context: Context, method: str, error: Exception) -> None:
    """Answers a call with an error. The handler returns afterwards: gRPC keeps AbortError with the call and raises it.

    Answers and logs nothing if the caller has reset the call: a peer can reset calls by the thousand.
    """
    try:
        if isinstance(error, grpc.aio.InternalError):
            await context.abort(grpc.StatusCode.CANCELLED)
        await _abort(context, method, error)
    except grpc.aio.AbortError as aborted:
        # The call holds this error, the traceback holds our frames, and the frames hold the call: a cycle around the
        # whole request, in a generation that is hardly ever collected (eventlog/runtime/interpreter.py).
        aborted.__traceback__ = aborted.__context__ = None
    except (grpc.aio.InternalError, grpc.aio.UsageError):
        # The call was reset before or during the answer. gRPC has marked it as aborted.
        return


async def _abort(context: Context, method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    answer = to_api_error(error, method=method)
    attempts = _previous_attempts(context) if answer.code is grpc.StatusCode.UNAVAILABLE else 0
    await context.abort(answer.code, answer.message, trailing_metadata(answer, context.time_remaining(), attempts))


def _previous_attempts(context: Context) -> int:
    """Attempts of gRPC's own retries before this one."""
    for name, value in context.invocation_metadata() or ():
        if name == PREVIOUS_ATTEMPTS and isinstance(value, str) and value.isdecimal():
            # A client may send any number; gRPC sends at most 4.
            return int(value[:2])
    return 0


class ForeignContext:
    """The context of a servicer that is not ours: adds an ErrorInfo to its errors, as ours have."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._code: grpc.StatusCode | None = None
        self._details = ""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Keeps the code for `check`."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Keeps the message for `check`."""
        self._details = details

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing: Any = ()) -> NoReturn:
        """Raises ApiError, or AbortError if the servicer gave trailing metadata."""
        if trailing:
            await self._context.abort(code, details, trailing)
        raise ApiError(code, errors_pb2.ERROR_REASON_INVALID_FIELDS, details or "not found")

    def check(self) -> None:
        """Raises ApiError if the servicer set an error code."""
        if self._code not in {None, grpc.StatusCode.OK}:
            raise ApiError(self._code, errors_pb2.ERROR_REASON_INVALID_FIELDS, self._details)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
