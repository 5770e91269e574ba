"""The adapter's calls on one stream to the simulated provider: what is asked for together travels together.

A call on its own costs both sides more than all that is done for it. Each call here is answered, timed out and refused
as if it were alone. Must never turn a lost stream into a result: its calls may have taken effect.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.rpc import status_pb2  # type: ignore[import-untyped, unused-ignore]
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

#: Calls in one message at most.
BATCH = 500
#: Where gRPC puts a google.rpc.Status.
DETAILS = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _error(code: grpc.StatusCode, message: str, status: bytes = b"") -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata((DETAILS, status)) if status else grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, message, None)


class CallStream:
    """One stream, opened when it is needed, and anew after it was lost. Used on one event loop."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._number = 0
        self._waiting: dict[int, asyncio.Future[pb.Answer]] = {}
        self._unsent: list[pb.Call] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def call(self, timeout_s: float, **body: Any) -> pb.CallResult:
        """Makes a call; `body` is one field of Call. Raises AioRpcError, as a call on its own would."""
        self._number += 1
        number = self._number
        answer: asyncio.Future[pb.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._unsent.append(pb.Call(number=number, **body))
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="calls to the provider")
        try:
            async with asyncio.timeout(timeout_s):
                found = await answer
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout_s:g} s") from None
        finally:
            del self._waiting[number]
        if found.WhichOneof("body") != "result":
            raise _refused(found.status)
        return found.result

    async def close(self) -> None:
        """Ends the stream. Calls under way are cut off."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failed = _error(grpc.StatusCode.UNAVAILABLE, "the stream of calls ended")
        sending: asyncio.Task[None] | None = None
        try:
            stream = self._stub.MakeCalls()
            sending = asyncio.create_task(self._send(stream))
            async for response in stream:
                for answer in response.answers:
                    waits = self._waiting.get(answer.number)
                    if waits is not None and not waits.done():
                        waits.set_result(answer)
        except grpc.aio.AioRpcError as error:
            failed = error
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            self._task = None
            self._unsent.clear()
            for waits in self._waiting.values():
                if not waits.done():
                    waits.set_exception(failed)

    async def _send(self, stream: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unsent:
                some, self._unsent = self._unsent[:BATCH], self._unsent[BATCH:]
                try:
                    await stream.write(pb.MakeCallsRequest(calls=some))
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    # Whoever reads the stream's answers is told why it ended.
                    return


def _refused(status: status_pb2.Status) -> grpc.aio.AioRpcError:
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _error(code, status.message, status.SerializeToString())
