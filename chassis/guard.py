"""What stands between the wire and a servicer: every handler is wrapped once, when the server is built.

A business call passes, in this order: whether there is time for it at all, who calls and whether they may, deadline,
places under way, size, decoding, the proto's rules, the servicer; what any of them raises becomes a google.rpc.Status.
This does the work of a chain of interceptors, but grpc.aio runs those anew for each call, which costs more than all the
checks here together. Must never hand a servicer a request that is not valid.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Generic, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from groupbuy.errors.v1 import errors_pb2

from chassis import validation
from chassis.auth import Access, Admit, Caller
from chassis.calls import OVERLOADED, Calls
from chassis.errors import ApiError, to_api_error, trailing_metadata
from chassis.fanout import serialising
from chassis.pressure import Pressure
from chassis.replicas_calls import forwarded

#: Bytes of a business request at most.
MAX_MESSAGE_BYTES = 256 * 1024

#: Bytes of a page from which it is sent compressed, to callers that can read it so: the server compresses all (OPTIONS
#: of chassis/server.py), but for what is exempted here. Single answers and changes of a watch are smaller, and many:
#: there compressing costs more than it saves. Asking for it call by call does nothing in grpc.aio (grpc issue 34690).
COMPRESS_BYTES = 16 * 1024

_EOF: Any = vars(grpc.aio)["EOF"]  # unknown to the stubs

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, Context], Any]
M = TypeVar("M", bound=Message)


def implemented(handler: Handler) -> bool:
    """Whether a servicer has its own method for it, and not the generated base class's, which only says that it has
    none. A method that isn't registered is answered UNIMPLEMENTED by gRPC itself."""
    return not (getattr(_behaviour(handler), "__module__", "") or "").endswith("_pb2_grpc")


class Unreadable:
    """Stands for a request that was not decoded, and says why: a deserialiser that raises gives no status."""

    __slots__ = ("error",)

    def __init__(self, error: ApiError) -> None:
        self.error = error


class Reader(Generic[M]):
    """Deserialises requests of one method."""

    __slots__ = ("_parse",)

    def __init__(self, parse: Callable[[bytes], M]) -> None:
        self._parse = parse

    def __call__(self, data: bytes) -> M | Unreadable:
        """The message, or why it can't be had."""
        if len(data) > MAX_MESSAGE_BYTES:
            return Unreadable(_too_large(len(data)))
        try:
            return self._parse(data)
        except DecodeError:
            return Unreadable(validation.invalid_fields([("", "these bytes are not this method's request")]))


class Guard:
    """Wraps handlers. `unary` and `streams` are what is under way."""

    def __init__(self, *, max_calls: int, max_streams: int, access: Access, pressure: Pressure | None = None) -> None:
        self._access = access
        self.pressure = pressure or Pressure()
        #: All that was wrapped, `/package.Service/Method`.
        self.methods: set[str] = set()
        self.unary = Calls(max_calls)
        self.streams = Calls(max_streams)
        self.operations = Calls(max_streams)

    def business(self, method: str, handler: Handler) -> Handler:
        """A handler of ours, with everything a business call must pass. Raises TypeError if it is not async."""
        self.methods.add(method)
        behaviour = _behaviour(handler)
        _require_async(method, behaviour)
        reader = Reader(handler.request_deserializer) if handler.request_deserializer else None
        admit = self._access.of(method)
        if handler.response_streaming:
            wrapped = self._streaming(method, behaviour, self.streams, admit, checked=not handler.request_streaming)
            return _handler(handler, wrapped, reader)
        if handler.request_streaming:
            return _handler(handler, self._gathering(method, behaviour, admit), reader)
        # On the wire it is the same. To gRPC's server it says that the request is read when we ask for it, and not
        # before a call can be refused.
        return _handler(handler, self._single(method, behaviour, admit), reader, request_streaming=True)

    def operational(self, method: str, handler: Handler) -> Handler:
        """A handler of health, reflection or channelz: exempt from all rules but who may call it, and told when the
        process stops."""
        self.methods.add(method)
        behaviour = _behaviour(handler)
        admit = self._access.of(method)
        if handler.response_streaming:
            return _handler(handler, self._streaming(method, behaviour, self.operations, admit, checked=None), None)
        return handler if self._access.open else _handler(handler, _admitted(method, behaviour, admit), None)

    def _single(self, method: str, behaviour: Behaviour, admit: Admit) -> Behaviour:
        places, pressure = self.unary, self.pressure
        plain = not behaviour.__name__.startswith("List")

        async def call(_requests: Any, context: Context) -> Any:
            try:
                # Nothing is done for a call before this. What another replica has let in already is not turned away.
                if places.full or (pressure.refuses() and not forwarded(context)):
                    await _refuse_at_once(context)
                admit(context)
                _require_deadline(context)
                request = await context.read()
                with places:
                    answer = await behaviour(_valid(request), context)
                if plain or answer.ByteSize() < COMPRESS_BYTES:
                    context.disable_next_message_compression()
            except Exception as error:  # noqa: BLE001 - each is answered, and logged unless it was foreseen
                await _refuse(context, method, error)
            else:
                return answer

        return call

    def _gathering(self, method: str, behaviour: Behaviour, admit: Admit) -> Behaviour:
        """One answer to a stream of requests."""
        places = self.unary

        async def call(requests: Any, context: Context) -> Any:
            try:
                caller = admit(context)
                with places:
                    answer = await behaviour(_all_valid(requests, caller), context)
                context.disable_next_message_compression()
            except Exception as error:  # noqa: BLE001 - as above
                await _refuse(context, method, error)
            else:
                return answer

        return call

    def _streaming(
        self, method: str, behaviour: Behaviour, places: Calls, admit: Admit, *, checked: bool | None
    ) -> Behaviour:
        """`checked`: one request, True; a stream of them, False; no rules at all, None."""
        prepared: Callable[[Any, Caller], Any] = {True: _one_valid, False: _all_valid, None: _as_it_is}[checked]
        generates = inspect.isasyncgenfunction(behaviour)

        async def call(request: Any, context: Context) -> None:
            try:
                caller = admit(context)
                with places:
                    answers = behaviour(prepared(request, caller), context)
                    if not generates:
                        await answers
                        return
                    # Closed here, not by the garbage collector: a watch ends when its call does.
                    async with aclosing(answers):
                        async for answer in answers:
                            context.disable_next_message_compression()
                            await context.write(answer)
            except Exception as error:  # noqa: BLE001 - each is answered, and logged unless it was foreseen
                await _refuse(context, method, error)

        return call


def _valid(request: Any) -> Any:
    if isinstance(request, Unreadable):
        raise request.error
    if request is _EOF:
        raise validation.invalid_fields([("", "there is no request")])
    validation.validate(request)
    return request


def _one_valid(request: Any, _caller: Caller) -> Any:
    return _valid(request)


async def _all_valid(requests: AsyncIterator[Any], caller: Caller) -> AsyncIterator[Any]:
    async for request in requests:
        # Slowed, not refused: what is refused in the middle of a stream ends all of it.
        await caller.pace()
        yield _valid(request)


def _as_it_is(request: Any, _caller: Caller) -> Any:
    return request


def _admitted(method: str, behaviour: Behaviour, admit: Admit) -> Behaviour:
    async def call(request: Any, context: Context) -> Any:
        try:
            admit(context)
        except ApiError as error:
            await _refuse(context, method, error)
        return await behaviour(request, context)

    return call


async def _refuse_at_once(context: Context) -> None:
    refusal = OVERLOADED.error
    await context.abort(refusal.code, refusal.message, OVERLOADED.trailing_metadata(context.time_remaining()))


async def _refuse(context: Context, method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    traceparent = ""
    for name, value in context.invocation_metadata() or ():
        if name == "traceparent" and isinstance(value, str):
            traceparent = value
    refusal = to_api_error(error, method=method, traceparent=traceparent)
    await context.abort(refusal.code, refusal.message, trailing_metadata(refusal, context.time_remaining()))


def _too_large(size: int) -> ApiError:
    return ApiError(
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
        f"the message has {size} bytes, {MAX_MESSAGE_BYTES} are allowed",
        metadata={"limit_bytes": str(MAX_MESSAGE_BYTES)},
    )


def _require_deadline(context: Context) -> None:
    if context.time_remaining() is None:
        raise ApiError(
            grpc.StatusCode.INVALID_ARGUMENT,
            errors_pb2.ERROR_REASON_DEADLINE_REQUIRED,
            "set a deadline on this call",
        )


def _behaviour(handler: Handler) -> Behaviour:
    found: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    behaviour: Behaviour = found
    return behaviour


def _require_async(method: str, behaviour: Callable[..., Awaitable[Any] | AsyncIterator[Any]]) -> None:
    if not (asyncio.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)):
        raise TypeError(f"{method} is served by {behaviour!r}, which is not async")


def _handler(
    handler: Handler, behaviour: Behaviour, reader: Reader[Any] | None, *, request_streaming: bool = False
) -> Handler:
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    kind: Any = kinds[request_streaming or handler.request_streaming, handler.response_streaming]
    serialise: Any = handler.response_serializer
    made: Handler = kind(
        behaviour,
        request_deserializer=reader or handler.request_deserializer,
        response_serializer=serialising(serialise) if serialise else None,
    )
    return made
