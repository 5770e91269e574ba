"""The steps between the wire and a servicer. Every handler is wrapped once, when the server is built.

A unary call passes these steps, in this order:

1. identity: who calls, whether the policy allows the method, and the caller's rate (chassis/identity/authorizer.py)
2. capacity: calls in flight and the wait for the event loop (chassis/admission)
3. deadline: the call has one
4. cost: the caller has not exceeded its bytes of large responses
5. reading: the request arrives in time (steps/time_limits.py)
6. slot: the call's place among the calls in flight, and the identity's share of them
7. size, decoding and the proto's rules (steps/request_reader.py)
8. the servicer

An exception of any step becomes a google.rpc.Status (steps/error_response.py). The request is read only after the
caller is known: to gRPC's server every request is a stream, from which the handler reads. Calls of health, channelz
and reflection pass the same steps without a deadline and without rules of a proto.

A chain of interceptors would do the same, but grpc.aio builds the chain anew for each call, which costs more than all
the checks here.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.admission.call_phases import Task
from chassis.admission.calls_in_flight import CallsInFlight
from chassis.admission.cost_limits import CostLimit
from chassis.admission.load_shedder import LoadShedder
from chassis.admission.rate_limit import RateLimit
from chassis.identity.authorizer import Authorizer, Caller, IdentifyCaller
from chassis.routing.peer_calls import forwarded
from chassis.rpc.call_meter import CallMeters, MethodMeter
from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError
from chassis.rpc.steps.error_response import ForeignContext, abort_overloaded, answer_with
from chassis.rpc.steps.handlers import (
    AnyMethod,
    Behaviour,
    Context,
    Handler,
    behaviour_of,
    implemented,
    replace_behaviour,
    require_async,
)
from chassis.rpc.steps.request_reader import decoded, each, validated
from chassis.rpc.steps.time_limits import TimeLimits
from chassis.rpc.trace_context import TRACE, trace_of

__all__ = ["MAX_MESSAGE_BYTES", "Context", "Handler", "RequestPipeline", "implemented"]

#: Bytes of a business request.
MAX_MESSAGE_BYTES = 256 * 1024
#: Bytes of a page from which it is compressed, for callers that accept it. The server compresses every message (OPTIONS
#: in chassis/rpc/server.py) except those exempted here: single responses and changes of a watch are small and many,
#: so that compression costs more than it saves. grpc.aio ignores compression set on a call (grpc issue 34690).
COMPRESS_BYTES = 16 * 1024
#: Name prefixes of methods whose responses may be a thousand times larger than their requests, and the bytes of such
#: responses for one identity. Encoding 100 KB of orders takes about 10 ms.
LARGE = ("List", "GetGroup", "GetBalances")
LARGE_BYTES = RateLimit(2_000_000, 4_000_000)

#: The method and the caller of a call in flight.
Call: TypeAlias = tuple[str, Caller]
#: Steps 2 to 8 of a call with one response.
Respond: TypeAlias = Callable[[Any, Context, Task, Caller], Awaitable[Any]]


class RequestPipeline:
    """Wraps handlers. `unary`, `streams` and `operations` are the calls in flight."""

    def __init__(
        self,
        *,
        max_calls: int,
        max_streams: int,
        authorizer: Authorizer,
        load_shedder: LoadShedder | None = None,
        max_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """`max_bytes` limits a request."""
        self._authorizer = authorizer
        self._max_bytes = max_bytes
        self.load_shedder = load_shedder or LoadShedder()
        #: The methods wrapped so far, `/package.Service/Method`.
        self.methods: set[str] = set()
        self.meters = CallMeters()
        self.unary: CallsInFlight[Call] = CallsInFlight(max_calls)
        self.streams: CallsInFlight[Call] = CallsInFlight(max_streams)
        self.operations: CallsInFlight[Call] = CallsInFlight(max_streams)
        self.limits = TimeLimits(max_calls, max_streams, self.load_shedder, self._end_call, self._end_stream)
        self._large = CostLimit("long answers", LARGE_BYTES)

    def business(self, method: str, handler: Handler) -> Handler:
        """Wraps a handler of ours. Raises TypeError if its method is not async."""
        behaviour = behaviour_of(handler)
        require_async(method, behaviour)
        admit = self._register(method)
        if handler.response_streaming:
            wrapped = self._streaming(method, handler, admit, self.streams, validated)
        elif handler.request_streaming:
            wrapped = self._answering(method, handler, admit, self._collect(method, behaviour))
        else:
            wrapped = self._answering(method, handler, admit, self._serve(method, behaviour))
        return replace_behaviour(handler, wrapped, self._max_bytes)

    def operational(self, method: str, handler: Handler) -> Handler:
        """Wraps a handler of health, reflection or channelz: no deadline, no rules of a proto."""
        admit = self._register(method)
        if handler.response_streaming:
            wrapped = self._streaming(method, handler, admit, self.operations, decoded)
        else:
            wrapped = self._answering(method, handler, admit, self._operate(method, behaviour_of(handler)))
        return replace_behaviour(handler, wrapped, self._max_bytes)

    def unserved(self) -> AnyMethod:
        """The handler of all methods that are not served. Add it last: gRPC itself answers strangers without a
        limit."""
        admit = self._authorizer.of_unserved()

        async def call(_requests: Any, context: Context) -> None:
            task = self.limits.begin()
            try:
                admit(context)
                raise _not_served()
            except ApiError as error:
                self.limits.answering(task, context)
                await answer_with(context, "", error)

        return AnyMethod(call)

    def withdraw(self) -> int:
        """Ends the calls in flight whose caller has lost access, and returns their number.

        Access ends with the certificate, its authority or the policy's row.
        """
        if self._authorizer.open:
            return 0

        def judge(call: Call) -> ApiError | None:
            return self._authorizer.refusal(*call)

        return sum(calls.end_where(judge) for calls in (self.unary, self.streams, self.operations))

    # The shapes of calls ------------------------------------------------------------------------------------------

    def _answering(self, method: str, handler: Handler, admit: IdentifyCaller, respond: Respond) -> Behaviour:
        """A call with one response: step 1, then `respond`."""
        limits, meters, meter = self.limits, self.meters, self._meter(method, handler)

        async def call(requests: Any, context: Context) -> Any:
            task = limits.begin()
            began, ok = meter.begin(), False
            try:
                caller = admit(context)
                answer = await respond(requests, context, task, caller)
            except Exception as error:  # noqa: BLE001 - each is answered, and logged if it is unexpected
                limits.answering(task, context)
                meters.count_error(error)
                await answer_with(context, method, error)
            else:
                limits.answering(task, context)
                ok = True
                return answer
            finally:
                meter.end(began, context, ok=ok)

        return call

    def _serve(self, method: str, behaviour: Behaviour) -> Respond:
        """Steps 2 to 8 of a unary call of ours."""
        calls, shedder, limits = self.unary, self.load_shedder, self.limits
        plain = not behaviour.__name__.startswith("List")
        large = self._large if behaviour.__name__.startswith(LARGE) else None

        async def respond(_requests: Any, context: Context, task: Task, caller: Caller) -> Any:
            # A call that another replica has admitted is not refused for load.
            if calls.full or (shedder.refuses() and not forwarded(context)):
                self.meters.count_refusal(errors_pb2.ERROR_REASON_OVERLOADED)
                await abort_overloaded(context)
            _require_deadline(context)
            if large is not None:
                large.require()
            request = await limits.read(task, context)
            with calls.slot((method, caller)):
                answer = await behaviour(validated(request), context)
            size = 0 if large is None else answer.ByteSize()
            if large is not None:
                large.charge(size)
            if plain or size < COMPRESS_BYTES:
                context.disable_next_message_compression()
            return answer

        return respond

    def _collect(self, method: str, behaviour: Behaviour) -> Respond:
        """One response to a stream of requests."""

        async def respond(requests: Any, context: Context, _task: Task, caller: Caller) -> Any:
            with self.unary.slot((method, caller)):
                answer = await behaviour(each(requests, caller, validated), context)
            context.disable_next_message_compression()
            return answer

        return respond

    def _operate(self, method: str, behaviour: Behaviour) -> Respond:
        """One response of a servicer that is not ours."""

        async def respond(_requests: Any, context: Context, task: Task, caller: Caller) -> Any:
            with self.operations.slot((method, caller)):
                request = decoded(await self.limits.read(task, context))
                foreign: Any = ForeignContext(context)
                answer = await behaviour(request, foreign)
                foreign.check()
            return answer

        return respond

    def _streaming(
        self,
        method: str,
        handler: Handler,
        admit: IdentifyCaller,
        calls: CallsInFlight[Call],
        check: Callable[[Any], Any],
    ) -> Behaviour:
        """A stream of responses, to one request or to a stream of requests."""
        behaviour, limits, meters = behaviour_of(handler), self.limits, self.meters
        meter = self._meter(method, handler)
        generates = inspect.isasyncgenfunction(behaviour)
        one_request = not handler.request_streaming

        async def call(requests: Any, context: Context) -> None:
            task = limits.begin(bounded=False)
            began, ok = meter.begin(), False
            try:
                caller = admit(context)
                with calls.slot((method, caller)):
                    given = check(await limits.read(task, context)) if one_request else each(requests, caller, check)
                    answers = behaviour(given, context)
                    if generates:
                        await self._write(task, context, answers)
                    else:
                        await answers
                        ok = True
                        return
                limits.answering(task, context)
                ok = True
            except Exception as error:  # noqa: BLE001 - each is answered, and logged if it is unexpected
                limits.answering(task, context)
                meters.count_error(error)
                await answer_with(context, method, error)
            finally:
                meter.end(began, context, ok=ok)

        return call

    async def _write(self, task: Task, context: Context, answers: Any) -> None:
        unread = self.limits.unread_messages
        # Closed here and not by the garbage collector: a watch ends with its call.
        async with aclosing(answers):
            answer: Any
            async for answer in answers:
                context.disable_next_message_compression()
                unread.enter(task)
                try:
                    await context.write(answer)
                finally:
                    unread.leave(task)

    def _meter(self, method: str, handler: Handler) -> MethodMeter:
        streams = {"request_streaming": handler.request_streaming, "response_streaming": handler.response_streaming}
        return self.meters.method(method, **streams)

    def _register(self, method: str) -> IdentifyCaller:
        """Step 1 of a method: identifies the caller, and sets the trace and whose share the call counts against."""
        self.methods.add(method)
        admit = self._authorizer.of(method)

        def named(context: Context) -> Caller:
            TRACE.set(trace_of(context.invocation_metadata()))
            caller = admit(context)
            IDENTITY.set(caller.shares)
            return caller

        return named

    def _end_call(self, task: Task, error: ApiError) -> bool:
        return self.unary.end_one(task, error) or self.operations.end_one(task, error)

    def _end_stream(self, task: Task, error: ApiError) -> bool:
        return self.streams.end_one(task, error) or self.operations.end_one(task, error)


def _require_deadline(context: Context) -> None:
    if context.time_remaining() is None:
        raise ApiError(
            grpc.StatusCode.INVALID_ARGUMENT,
            errors_pb2.ERROR_REASON_DEADLINE_REQUIRED,
            "this method requires a gRPC deadline (grpcurl -max-time, buf curl --timeout)",
        )


def _not_served() -> ApiError:
    return ApiError(
        grpc.StatusCode.UNIMPLEMENTED, errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED, "there is no such method here"
    )
