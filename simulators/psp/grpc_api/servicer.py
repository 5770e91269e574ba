"""gRPC API of the simulated provider: validates requests, maps results and refusals, serves the statement.

Faults are injected into the merchant's calls alone. Confirm, Configure, the exports, and the calls that stand for the
bank and for people in the dashboard belong to the test and work at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from itertools import islice
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped, unused-ignore]
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from groupbuy.simprovider.v1 import simprovider_pb2_grpc as pb_grpc

from chassis.rpc import validation
from simulators.psp.accounts.account_book import Request
from simulators.psp.accounts.holds import (
    KeyReused,
    MethodRefused,
    NotConfirmable,
    NotFound,
    NotPossible,
    Refusal,
)
from simulators.psp.accounts.statement_entries import balance_entry, dispute_entry
from simulators.psp.grpc_api.call_stream_server import answer_calls
from simulators.psp.request_handler import RateLimited, RequestHandler, Unavailable

T = TypeVar("T")

log = structlog.get_logger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

DOMAIN = "simprovider"
#: Statement entries read at once.
STATEMENT_CHUNK = 500
#: Characters of a status message, which travels in a header.
MAX_MESSAGE_CHARACTERS = 500
CODES = {code.value[0]: code for code in grpc.StatusCode}

#: Status and ErrorInfo reason of each refusal.
REFUSALS: dict[type[Refusal], tuple[grpc.StatusCode, str]] = {
    KeyReused: (grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED"),
    NotFound: (grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    NotConfirmable: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_CONFIRMABLE"),
    NotPossible: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_POSSIBLE"),
    MethodRefused: (grpc.StatusCode.FAILED_PRECONDITION, "METHOD_REFUSED"),
}


class SimProviderServicer(pb_grpc.SimProviderServiceServicer):
    """Servicer of SimProviderService."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler

    async def Authorise(self, request: pb.AuthoriseRequest, context: Context) -> pb.CallResult:
        """Holds money, or takes it at once."""
        return await self._call(request, context)

    async def Capture(self, request: pb.CaptureRequest, context: Context) -> pb.CallResult:
        """Takes held money."""
        return await self._call(request, context)

    async def Void(self, request: pb.VoidRequest, context: Context) -> pb.CallResult:
        """Releases a hold."""
        return await self._call(request, context)

    async def Refund(self, request: pb.RefundRequest, context: Context) -> pb.CallResult:
        """Returns captured money."""
        return await self._call(request, context)

    async def MakeCalls(
        self, requests: AsyncIterator[pb.MakeCallsRequest], context: Context
    ) -> AsyncIterator[pb.MakeCallsResponse]:
        """Makes calls, each answered as a unary call would be."""
        async with aclosing(answer_calls(requests, self._answer)) as batches:
            async for answers in batches:
                yield pb.MakeCallsResponse(answers=answers)

    async def LookUp(self, request: pb.LookUpRequest, context: Context) -> pb.CallResult:
        """Returns the result of a call. A look-up has no effect, so no fault follows one."""
        return await self._call(request, context, effect=False)

    async def Confirm(self, request: pb.ConfirmRequest, context: Context) -> pb.CallResult:
        """Confirms a payment in the shopper's place."""
        return await _outside_of_faults(request, context, lambda: self._handler.submit(request))

    async def ExportStatement(
        self, request: pb.ExportStatementRequest, context: Context
    ) -> AsyncIterator[pb.StatementEntry]:
        """Streams the statement, hold by hold."""
        entries = self._handler.book.statement()

        def chunk() -> list[pb.StatementEntry]:
            return list(islice(entries, STATEMENT_CHUNK))

        while batch := await asyncio.to_thread(chunk):
            for entry in batch:
                yield entry

    async def ExportBalance(
        self, request: pb.ExportBalanceRequest, context: Context
    ) -> AsyncIterator[pb.BalanceTransaction]:
        """Streams the balance transactions, oldest first."""
        entries = (balance_entry(booking, hold) for booking, hold in self._handler.book.balance_statement())

        def chunk() -> list[pb.BalanceTransaction]:
            return list(islice(entries, STATEMENT_CHUNK))

        while batch := await asyncio.to_thread(chunk):
            for entry in batch:
                yield entry

    async def OperateByHand(self, request: pb.OperateByHandRequest, context: Context) -> pb.CallResult:
        """Makes an operation in the dashboard."""
        return await self._by_life(request, context, lambda: self._handler.life.operate_by_hand(request))

    async def UndoRefund(self, request: pb.UndoRefundRequest, context: Context) -> pb.CallResult:
        """Undoes a refund."""
        return await self._by_life(request, context, lambda: self._handler.life.undo_refund(request))

    async def OpenDispute(self, request: pb.OpenDisputeRequest, context: Context) -> pb.Dispute:
        """Opens a dispute."""
        return await self._by_life(request, context, lambda: dispute_entry(*self._handler.life.open_dispute(request)))

    async def UpdateDispute(self, request: pb.UpdateDisputeRequest, context: Context) -> pb.Dispute:
        """Moves a dispute on."""
        return await self._by_life(
            request,
            context,
            lambda: dispute_entry(*self._handler.life.update_dispute(request.dispute, request.state)),
        )

    async def WarnOfFraud(self, request: pb.WarnOfFraudRequest, context: Context) -> pb.CallResult:
        """Warns of fraud."""
        return await self._by_life(request, context, lambda: self._handler.life.warn_of_fraud(request))

    async def PayOut(self, request: pb.PayOutRequest, context: Context) -> pb.PayOutResponse:
        """Pays the balance out."""
        paid = await self._by_life(request, context, lambda: self._handler.life.pay_out(request.currency, request.wire))
        return pb.PayOutResponse(payouts=[balance_entry(one, None) for one in paid])

    async def Configure(self, request: pb.ConfigureRequest, context: Context) -> pb.Behaviour:
        """Sets the behaviour until the next Configure or restart."""
        try:
            _check(request)
        except _Refused as refused:
            await _abort(context, refused.status)
        if request.behaviour.latency_min_ms > request.behaviour.latency_max_ms:
            await _abort(context, _bad_fields([("behaviour.latency_min_ms", "must not be above latency_max_ms")]))
        self._handler.configure(request.behaviour)
        return request.behaviour

    async def _by_life(self, request: Message, context: Context, work: Callable[[], T]) -> T:
        return await _outside_of_faults(request, context, lambda: self._handler.run(work))

    async def _answer(self, call: pb.Call) -> pb.Answer:
        """Result of a call of a stream, or the status that a unary call would have ended with."""
        kind = call.WhichOneof("body")
        if kind is None:
            return pb.Answer(number=call.number, status=_bad_fields([("body", "a call without a body")]))
        request: Request = getattr(call, kind)
        try:
            return pb.Answer(number=call.number, result=await self._make(request))
        except _Refused as refused:
            return pb.Answer(number=call.number, status=refused.status)
        except Exception:
            log.exception("call failed")
            status = status_pb2.Status(code=grpc.StatusCode.INTERNAL.value[0], message="failed; nothing was written")
            return pb.Answer(number=call.number, status=status)

    async def _call(self, request: Request, context: Context, *, effect: bool = True) -> pb.CallResult:
        try:
            return await self._make(request, effect=effect)
        except _Refused as refused:
            await _abort(context, refused.status)

    async def _make(self, request: Request, *, effect: bool = True) -> pb.CallResult:
        """Makes one of the merchant's calls. Raises _Refused."""
        _check(request)
        try:
            return await self._handler.call(request, effect=effect)
        except Unavailable as failed:
            raise _Refused(_status(grpc.StatusCode.UNAVAILABLE, str(failed))) from failed
        except RateLimited as failed:
            raise _Refused(_limited(failed)) from failed
        except Refusal as refusal:
            raise _Refused(_refusal(refusal)) from refusal


class _Refused(Exception):
    """A call is answered with a google.rpc.Status."""

    def __init__(self, status: Any) -> None:
        super().__init__(status.message)
        self.status = status


async def _outside_of_faults(request: Message, context: Context, make: Callable[[], Awaitable[T]]) -> T:
    """Makes a call of the test's own."""
    try:
        _check(request)
        return await make()
    except _Refused as refused:
        await _abort(context, refused.status)
    except Refusal as refusal:
        await _abort(context, _refusal(refusal))


def _limited(failed: RateLimited) -> Any:
    detail = None
    if failed.retry_after_s:
        detail = error_details_pb2.RetryInfo()
        detail.retry_delay.FromSeconds(failed.retry_after_s)
    return _status(grpc.StatusCode.RESOURCE_EXHAUSTED, str(failed), detail)


def _refusal(refusal: Refusal) -> Any:
    code, reason = REFUSALS[type(refusal)]
    return _status(code, str(refusal), error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))


def _check(request: Message) -> None:
    """Raises _Refused for a request that violates the rules of its proto."""
    if violations := protovalidate.collect_violations(request):
        raise _Refused(_bad_fields([(_path(one.proto.field), validation.describe(one)) for one in violations]))


def _path(field: protovalidate.FieldPathPb | None) -> str:
    return ".".join(element.field_name for element in field.elements) if field is not None else ""


def _bad_fields(fields: list[tuple[str, str]]) -> Any:
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in fields
        ]
    )
    message = "; ".join(f"{field}: {description}" for field, description in fields)
    return _status(grpc.StatusCode.INVALID_ARGUMENT, message, bad)


def _status(code: grpc.StatusCode, message: str, detail: Message | None = None) -> Any:
    """A google.rpc.Status with one detail at most. It travels in headers, so its message is cut."""
    status = status_pb2.Status(code=code.value[0], message=message[:MAX_MESSAGE_CHARACTERS])
    if detail is not None:
        status.details.add().Pack(detail)
    return status


async def _abort(context: Context, status: Any) -> NoReturn:
    details = (("grpc-status-details-bin", status.SerializeToString()),) if status.details else ()
    await context.abort(CODES[status.code], status.message, details)
