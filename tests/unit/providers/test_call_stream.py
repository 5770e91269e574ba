"""Calls on one stream: each is answered by its number, and a lost stream leaves its calls unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest
from google.rpc import status_pb2  # type: ignore[import-untyped, unused-ignore]
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from services.payments.providers.simulator_client.call_stream import CallStream
from tests.unit.chassis.support import eventually

LONG_S = 30.0


class Stream:
    """A gRPC stream whose other end is the test."""

    def __init__(self) -> None:
        self.written: list[list[pb.Call]] = []
        self._responses: asyncio.Queue[pb.MakeCallsResponse | Exception] = asyncio.Queue()

    async def write(self, request: pb.MakeCallsRequest) -> None:
        self.written.append(list(request.calls))

    def answer(self, answers: Sequence[pb.Answer]) -> None:
        self._responses.put_nowait(pb.MakeCallsResponse(answers=answers))

    def lose(self) -> None:
        nothing = grpc.aio.Metadata()
        self._responses.put_nowait(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "gone", None))

    async def __aiter__(self) -> AsyncIterator[pb.MakeCallsResponse]:
        while True:
            found = await self._responses.get()
            if isinstance(found, Exception):
                raise found
            yield found


class Stub:
    """Opens streams."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []

    def MakeCalls(self) -> Stream:
        self.streams.append(Stream())
        return self.streams[-1]


def void(stream: CallStream, key: str, timeout_s: float = LONG_S) -> asyncio.Task[pb.CallResult]:
    return asyncio.create_task(stream.call(timeout_s, void=pb.VoidRequest(key=key, hold="h")))


async def test_calls_made_together_share_a_message_and_each_gets_its_own_answer() -> None:
    stub = Stub()
    stream = CallStream(stub)
    calls = [void(stream, key) for key in ("a", "b", "c")]
    await eventually(lambda: bool(stub.streams and stub.streams[0].written))
    (opened,) = stub.streams
    (sent,) = opened.written
    assert [call.void.key for call in sent] == ["a", "b", "c"]
    opened.answer([pb.Answer(number=call.number, result=pb.CallResult(key=call.void.key)) for call in reversed(sent)])
    assert [(await call).key for call in calls] == ["a", "b", "c"]
    await stream.close()


async def test_an_error_status_is_raised_as_a_unary_call_would_raise_it() -> None:
    stub = Stub()
    stream = CallStream(stub)
    call = void(stream, "a")
    await eventually(lambda: bool(stub.streams and stub.streams[0].written))
    status = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="no hold h")
    stub.streams[0].answer([pb.Answer(number=stub.streams[0].written[0][0].number, status=status)])
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.NOT_FOUND, "no hold h")
    await stream.close()


async def test_a_lost_stream_leaves_its_calls_unknown_and_the_next_call_opens_another() -> None:
    stub = Stub()
    stream = CallStream(stub)
    lost = void(stream, "a")
    await eventually(lambda: bool(stub.streams and stub.streams[0].written))
    stub.streams[0].lose()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await lost
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    again = void(stream, "a")
    await eventually(lambda: len(stub.streams) == 2 and bool(stub.streams[1].written))
    # The callers retry the calls of a lost stream; the stream itself does not.
    assert [[call.void.key for call in some] for some in stub.streams[1].written] == [["a"]]
    stub.streams[1].answer([pb.Answer(number=stub.streams[1].written[0][0].number, result=pb.CallResult(key="a"))])
    assert (await again).key == "a"
    await stream.close()


async def test_a_late_answer_is_dropped() -> None:
    stub = Stub()
    stream = CallStream(stub)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stream.call(0.01, void=pb.VoidRequest(key="a", hold="h"))
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    late, call = stub.streams[0].written[0][0].number, void(stream, "b")
    await eventually(lambda: len(stub.streams[0].written) == 2)
    number = stub.streams[0].written[1][0].number
    stub.streams[0].answer([pb.Answer(number=late, result=pb.CallResult(key="a"))])
    stub.streams[0].answer([pb.Answer(number=number, result=pb.CallResult(key="b"))])
    assert (await call).key == "b"
    await stream.close()
