"""Decodes and validates requests: size, bytes, then the rules of the proto."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from groupbuy.errors.v1 import errors_pb2

from chassis.identity.authorizer import Caller
from chassis.rpc import validation
from chassis.rpc.errors import ApiError

#: The end of a request stream, as grpc.aio returns it; not in the stubs.
_EOF: Any = vars(grpc.aio)["EOF"]

M = TypeVar("M", bound=Message)


class Unreadable:
    """Takes the place of a request that could not be decoded, with the error: a deserialiser that raises has no
    status."""

    __slots__ = ("error",)

    def __init__(self, error: ApiError) -> None:
        self.error = error


class RequestReader(Generic[M]):
    """The deserialiser of one method's requests."""

    __slots__ = ("_max_bytes", "_parse")

    def __init__(self, parse: Callable[[bytes], M], max_bytes: int) -> None:
        self._parse = parse
        self._max_bytes = max_bytes

    def __call__(self, data: bytes) -> M | Unreadable:
        """Returns the request, or Unreadable."""
        if len(data) > self._max_bytes:
            return Unreadable(_too_large(len(data), self._max_bytes))
        try:
            return self._parse(data)
        except DecodeError:
            return Unreadable(validation.invalid_field("", "these bytes are not this method's request"))


def decoded(request: Any) -> Any:
    """Returns the request. Raises ApiError if there is none or it could not be decoded."""
    if isinstance(request, Unreadable):
        raise request.error
    if request is _EOF:
        raise validation.invalid_field("", "there is no request")
    return request


def validated(request: Any) -> Any:
    """Returns the request. Raises ApiError as `decoded`, and INVALID_FIELDS if it breaks a rule of its proto."""
    validation.validate(decoded(request))
    return request


async def each(requests: AsyncIterator[Any], caller: Caller, check: Callable[[Any], Any]) -> AsyncIterator[Any]:
    """The checked requests of a stream, at the rate that the caller is allowed.

    The stream is slowed down, not refused: an error in the middle of a stream ends all of it.
    """
    async for request in requests:
        await caller.throttle()
        yield check(request)


def _too_large(size: int, limit: int) -> ApiError:
    return ApiError(
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
        f"the message has {size} bytes, {limit} are allowed",
        metadata={"limit_bytes": str(limit)},
    )
