"""What stands between the wire and a servicer: every handler is wrapped once, when the server is built.

A call passes, in this order: who calls and whether they may, capacity, deadline, reading, size, decoding, the proto's
rules, the servicer; an error of any of them becomes a google.rpc.Status. Nothing of a request is read before the caller
is known: to gRPC's server every request is a stream, from which the handler reads. Calls of health, channelz and
reflection pass the same, without a deadline and without rules of a proto.

This does the work of a chain of interceptors, but grpc.aio runs those anew for each call, which costs more than all the
checks here together.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from groupbuy.errors.v1 import errors_pb2

from chassis.admission.call_phases import Phase, Task
from chassis.admission.calls_in_flight import OVERLOADED, OVERLOADED_RETRY_MS, Calls
from chassis.admission.cost_limits import Costly
from chassis.admission.load_shedder import LoadShedder
from chassis.admission.rate_limit import Limit
from chassis.identity.authorizer import Access, Admit, Caller
from chassis.routing.peer_calls import forwarded
from chassis.rpc import validation
from chassis.rpc.broadcast import serialising
from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError, to_api_error, trailing_metadata

#: Bytes of a business request at most.
MAX_MESSAGE_BYTES = 256 * 1024

#: Seconds that the request of a call may take to arrive, whatever the caller's deadline.
REQUEST_S = 10.0
#: Seconds that a unary call may take in all: a later deadline is cut.
MAX_S = 65.0
#: Seconds after which a caller that does not read a unary answer, or the next message of a stream, has lost it.
UNREAD_S = 30.0

#: Bytes of a page from which it is sent compressed, to callers that can read it so: the server compresses all (OPTIONS
#: of chassis/rpc/server.py), but for what is exempted here. Single answers and changes of a watch are smaller, and
#: many: there compressing costs more than it saves. Asking for it call by call does nothing in grpc.aio (grpc issue
#: 34690).
COMPRESS_BYTES = 16 * 1024
#: Beginnings of the names of methods whose answers may be a thousand times larger than what asks for them, and the
#: bytes of such answers that one identity gets. 100 KB of orders take about 10 ms.
LARGE = ("List", "GetGroup", "GetBalances")
LARGE_BYTES = Limit(2_000_000, 4_000_000)

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

    __slots__ = ("_most", "_parse")

    def __init__(self, parse: Callable[[bytes], M], most_bytes: int) -> None:
        self._parse = parse
        self._most = most_bytes

    def __call__(self, data: bytes) -> M | Unreadable:
        """The message, or why it can't be had."""
        if len(data) > self._most:
            return Unreadable(_too_large(len(data), self._most))
        try:
            return self._parse(data)
        except DecodeError:
            return Unreadable(validation.invalid_fields([("", "these bytes are not this method's request")]))


#: Who makes a call, and of which method.
Who: TypeAlias = tuple[str, Caller]


class RequestPipeline:
    """Wraps handlers. `unary`, `streams` and `operations` are the calls in flight."""

    def __init__(
        self,
        *,
        max_calls: int,
        max_streams: int,
        access: Access,
        pressure: LoadShedder | None = None,
        max_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """`max_bytes` of a request at most."""
        self._access = access
        self._max_bytes = max_bytes
        self.pressure = pressure or LoadShedder()
        #: All that was wrapped, `/package.Service/Method`.
        self.methods: set[str] = set()
        self.unary: Calls[Who] = Calls(max_calls)
        self.streams: Calls[Who] = Calls(max_streams)
        self.operations: Calls[Who] = Calls(max_streams)
        calls = max_calls + max_streams
        self._large = Costly("long answers", LARGE_BYTES)
        self._arriving = Phase(max_calls, REQUEST_S, self._arrives_not)
        self._under_way = Phase(calls, MAX_S, self._too_long)
        self._unread = Phase(calls, UNREAD_S, self._is_not_read)
        self._unread_streams = Phase(calls, UNREAD_S, self._reads_not)
        self._late: set[Task] = set()
        #: Peers that leave answers unread: only the end of their connections ends such a call in gRPC.
        self.deaf: set[str] = set()

    def sweep(self) -> int:
        """Ends the calls whose peers have let them stand for too long, and returns how many. To be called every
        second."""
        phases = (self._arriving, self._under_way, self._unread, self._unread_streams)
        return sum(phase.sweep() for phase in phases)

    def _begin(self, *, bounded: bool = True) -> Task:
        """A call has come. It is over when its task is, which may be long after its handler: the peer may not read.
        `bounded`: it may take MOST_S."""
        task: Task | None = asyncio.current_task()
        assert task is not None
        self.pressure.begin()
        if bounded:
            self._under_way.enter(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: Task) -> None:
        self.pressure.end()
        self._under_way.leave(task)
        self._unread.leave(task)
        self._late.discard(task)

    async def _read(self, task: Task, context: Context) -> Any:
        """The one request of a call. Raises ApiError where it does not come in time."""
        self._arriving.enter(task)
        try:
            return await context.read()
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            self._late.discard(task)
            task.uncancel()
            raise validation.invalid_fields([("", f"the request did not come within {REQUEST_S:g} s")]) from None
        finally:
            self._arriving.leave(task)

    def _arrives_not(self, task: Task, _: object) -> None:
        self._late.add(task)
        task.cancel()

    def _too_long(self, task: Task, _: object) -> None:
        # One that is in neither waits for its request, or to be read: there are other limits for that.
        _ = self.unary.end_one(task, _too_long()) or self.operations.end_one(task, _too_long())

    def _reads_not(self, task: Task, _: object) -> None:
        _ = self.streams.end_one(task, _unread()) or self.operations.end_one(task, _unread())

    def _is_not_read(self, _task: Task, context: Context) -> None:
        self.deaf.add(context.peer())

    def business(self, method: str, handler: Handler) -> Handler:
        """A handler of ours, with everything a business call must pass. Raises TypeError if it is not async."""
        self.methods.add(method)
        behaviour = _behaviour(handler)
        _require_async(method, behaviour)
        admit = _named(self._access.of(method))
        if handler.response_streaming:
            prepare = _all_valid if handler.request_streaming else _one_valid
            return self._made(handler, self._streaming(method, behaviour, self.streams, admit, prepare))
        if handler.request_streaming:
            return self._made(handler, self._gathering(method, behaviour, admit))
        return self._made(handler, self._single(method, behaviour, admit))

    def operational(self, method: str, handler: Handler) -> Handler:
        """A handler of health, reflection or channelz: without a deadline and without rules of a proto. Its calls are
        ended when the process stops."""
        self.methods.add(method)
        behaviour = _behaviour(handler)
        admit = _named(self._access.of(method))
        if handler.response_streaming:
            prepare = _all_read if handler.request_streaming else _one_read
            return self._made(handler, self._streaming(method, behaviour, self.operations, admit, prepare))
        return self._made(handler, self._operation(method, behaviour, admit))

    def others(self) -> _Others:
        """Handles all methods that are not served, to be added last: gRPC itself would answer strangers, without a
        limit."""
        admit = self._access.of_others()

        async def call(_requests: Any, context: Context) -> None:
            task = self._begin()
            try:
                admit(context)
                raise _not_served()
            except ApiError as error:
                self._unread.enter(task, context)
                await _refuse(context, "", error)

        kind: Any = grpc.stream_stream_rpc_method_handler
        return _Others(kind(call))

    def withdraw(self) -> int:
        """Ends the calls in flight whose caller may not make them any more: the certificate has expired, or its
        authority or the table has changed. Returns how many."""
        if self._access.open:
            return 0

        def judge(who: Who) -> ApiError | None:
            return self._access.refusal(*who)

        return sum(calls.end(judge) for calls in (self.unary, self.streams, self.operations))

    def _made(self, handler: Handler, behaviour: Behaviour) -> Handler:
        return _handler(handler, behaviour, self._max_bytes)

    def _single(self, method: str, behaviour: Behaviour, admit: Admit) -> Behaviour:
        places, pressure = self.unary, self.pressure
        plain = not behaviour.__name__.startswith("List")
        large = self._large if behaviour.__name__.startswith(LARGE) else None

        async def call(_requests: Any, context: Context) -> Any:
            task = self._begin()
            try:
                caller = admit(context)
                # Nothing more is done for a call before this. A call that another replica has let in is not refused.
                if places.full or (pressure.refuses() and not forwarded(context)):
                    await _refuse_at_once(context)
                _require_deadline(context)
                if large is not None:
                    large.require()
                request = await self._read(task, context)
                with places.of((method, caller)):
                    answer = await behaviour(_valid(request), context)
                size = 0 if large is None else answer.ByteSize()
                if large is not None:
                    large.charge(size)
                if plain or size < COMPRESS_BYTES:
                    context.disable_next_message_compression()
            except Exception as error:  # noqa: BLE001 - each is answered, and logged unless it was foreseen
                self._unread.enter(task, context)
                await _refuse(context, method, error)
            else:
                self._unread.enter(task, context)
                return answer

        return call

    def _operation(self, method: str, behaviour: Behaviour, admit: Admit) -> Behaviour:
        """One answer to one request, of a servicer that is not ours."""
        places = self.operations

        async def call(_requests: Any, context: Context) -> Any:
            task = self._begin()
            try:
                caller = admit(context)
                with places.of((method, caller)):
                    request = _decoded(await self._read(task, context))
                    explained: Any = _Explained(context)
                    answer = await behaviour(request, explained)
                    explained.check()
            except Exception as error:  # noqa: BLE001 - as above
                self._unread.enter(task, context)
                await _refuse(context, method, error)
            else:
                self._unread.enter(task, context)
                return answer

        return call

    def _gathering(self, method: str, behaviour: Behaviour, admit: Admit) -> Behaviour:
        """One answer to a stream of requests."""
        places = self.unary

        async def call(requests: Any, context: Context) -> Any:
            task = self._begin()
            try:
                caller = admit(context)
                with places.of((method, caller)):
                    answer = await behaviour(_all_valid(requests, caller), context)
                context.disable_next_message_compression()
            except Exception as error:  # noqa: BLE001 - as above
                self._unread.enter(task, context)
                await _refuse(context, method, error)
            else:
                self._unread.enter(task, context)
                return answer

        return call

    def _streaming(
        self, method: str, behaviour: Behaviour, places: Calls[Who], admit: Admit, prepare: Prepare
    ) -> Behaviour:
        """A stream of answers. `prepare` makes the servicer's argument of what is read."""
        generates = inspect.isasyncgenfunction(behaviour)
        single = prepare in {_one_valid, _one_read}
        unread = self._unread_streams

        async def call(requests: Any, context: Context) -> None:
            task = self._begin(bounded=False)
            try:
                caller = admit(context)
                with places.of((method, caller)):
                    given = await self._read(task, context) if single else requests
                    answers = behaviour(prepare(given, caller), context)
                    if not generates:
                        await answers
                        return
                    # Closed here, not by the garbage collector: a watch ends when its call does.
                    async with aclosing(answers):
                        async for answer in answers:
                            context.disable_next_message_compression()
                            unread.enter(task)
                            try:
                                await context.write(answer)
                            finally:
                                unread.leave(task)
                self._unread.enter(task, context)
            except Exception as error:  # noqa: BLE001 - each is answered, and logged unless it was foreseen
                self._unread.enter(task, context)
                await _refuse(context, method, error)

        return call


class _Others(grpc.GenericRpcHandler):  # type: ignore[type-arg] # at run time it takes none
    """One handler for whatever method."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """The handler."""
        return self._handler


def _named(admit: Admit) -> Admit:
    """The same, and notes whose share the call takes."""

    def named(context: Context) -> Caller:
        caller = admit(context)
        IDENTITY.set(caller.shares)
        return caller

    return named


def _too_long() -> ApiError:
    return ApiError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ANSWER_PENDING,
        f"no call may take longer than {MAX_S:g} s; what was asked for may still happen",
    )


def _unread() -> ApiError:
    return ApiError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors_pb2.ERROR_REASON_OVERLOADED,
        f"nothing was read from this stream for {UNREAD_S:g} s; open another one",
        retry_after_ms=OVERLOADED_RETRY_MS,
    )


#: Makes a servicer's argument of what was read.
Prepare: TypeAlias = Callable[[Any, Caller], Any]


def _decoded(request: Any) -> Any:
    if isinstance(request, Unreadable):
        raise request.error
    if request is _EOF:
        raise validation.invalid_fields([("", "there is no request")])
    return request


def _valid(request: Any) -> Any:
    validation.validate(_decoded(request))
    return request


def _one_valid(request: Any, _caller: Caller) -> Any:
    return _valid(request)


def _one_read(request: Any, _caller: Caller) -> Any:
    return _decoded(request)


async def _all_valid(requests: AsyncIterator[Any], caller: Caller) -> AsyncIterator[Any]:
    async for request in requests:
        # Slowed, not refused: what is refused in the middle of a stream ends all of it.
        await caller.pace()
        yield _valid(request)


async def _all_read(requests: AsyncIterator[Any], caller: Caller) -> AsyncIterator[Any]:
    async for request in requests:
        await caller.pace()
        yield _decoded(request)


class _Explained:
    """The context of a servicer that is not ours: its refusals without details get an ErrorInfo as ours have."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._code: grpc.StatusCode | None = None
        self._details = ""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Notes a refusal."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Notes its text."""
        self._details = details

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing: Any = ()) -> NoReturn:
        """Refuses. Raises ApiError, or AbortError where there are details already."""
        if trailing:
            await self._context.abort(code, details, trailing)
        raise ApiError(code, errors_pb2.ERROR_REASON_INVALID_FIELDS, details or "there is no such thing")

    def check(self) -> None:
        """Raises ApiError where a refusal was noted."""
        if self._code not in {None, grpc.StatusCode.OK}:
            raise ApiError(self._code, errors_pb2.ERROR_REASON_INVALID_FIELDS, self._details)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


async def _refuse_at_once(context: Context) -> None:
    refusal = OVERLOADED.error
    await context.abort(refusal.code, refusal.message, OVERLOADED.trailing_metadata(context.time_remaining()))


async def _refuse(context: Context, method: str, error: Exception) -> None:
    """Answers a call with an error. The handler then returns: gRPC keeps the AbortError with the call and raises it
    itself. Nobody is answered, and nothing logged, where the caller has reset the call: a peer can do that by the
    thousand."""
    try:
        if isinstance(error, grpc.aio.InternalError):
            await context.abort(grpc.StatusCode.CANCELLED)
        await _abort(context, method, error)
    except grpc.aio.AbortError as aborted:
        # The call holds this error. Its traceback would hold our frames, and they hold the call: a cycle with the whole
        # request in it, and the collector comes to the old ones hardly ever (eventlog/runtime/interpreter.py).
        aborted.__traceback__ = aborted.__context__ = None
    except (grpc.aio.InternalError, grpc.aio.UsageError):
        # The call was reset before or while it was answered. gRPC has noted that it is aborted.
        return


async def _abort(context: Context, method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    traceparent = ""
    for name, value in context.invocation_metadata() or ():
        if name == "traceparent" and isinstance(value, str):
            traceparent = value
    refusal = to_api_error(error, method=method, traceparent=traceparent)
    await context.abort(refusal.code, refusal.message, trailing_metadata(refusal, context.time_remaining()))


def _not_served() -> ApiError:
    return ApiError(
        grpc.StatusCode.UNIMPLEMENTED, errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED, "there is no such method here"
    )


def _too_large(size: int, most: int) -> ApiError:
    return ApiError(
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
        f"the message has {size} bytes, {most} are allowed",
        metadata={"limit_bytes": str(most)},
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


def _handler(handler: Handler, behaviour: Behaviour, max_bytes: int) -> Handler:
    """On the wire it is the same: a stream of one request is a request."""
    kind: Any = (
        grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    )
    parse, serialise = handler.request_deserializer, handler.response_serializer
    made: Handler = kind(
        behaviour,
        request_deserializer=Reader(parse, max_bytes) if parse else None,
        response_serializer=serialising(serialise) if serialise else None,
    )
    return made
