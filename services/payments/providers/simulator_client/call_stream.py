"""Calls multiplexed on one gRPC stream to the simulated provider; calls made together share a message.

A unary RPC costs both sides more than the work it asks for. Each call on the stream is answered, timed out and refused
as a unary one would be. A lost stream fails its calls with UNAVAILABLE, as they may have taken effect.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.rpc import status_pb2  # type: ignore[import-untyped, unused-ignore]
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

#: Most calls in one message.
MAX_BATCH = 500
#: Metadata key of a google.rpc.Status.
DETAILS = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _error(code: grpc.StatusCode, message: str, status: bytes = b"") -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata((DETAILS, status)) if status else grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, message, None)


class CallStream:
    """A stream opened for the first call and reopened after it is lost. Used on one event loop."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._number = 0
        self._pending: dict[int, asyncio.Future[pb.Answer]] = {}
        self._unsent: list[pb.Call] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def call(self, timeout_s: float, **body: Any) -> pb.CallResult:
        """Makes a call; `body` is one field of Call. Raises AioRpcError, as a unary call would."""
        self._number += 1
        number = self._number
        answer: asyncio.Future[pb.Answer] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
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
            del self._pending[number]
        if found.WhichOneof("body") != "result":
            raise _refused(found.status)
        return found.result

    async def close(self) -> None:
        """Ends the stream. Calls in flight are cut off."""
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
                    future = self._pending.get(answer.number)
                    if future is not None and not future.done():
                        future.set_result(answer)
        except grpc.aio.AioRpcError as error:
            failed = error
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            self._task = None
            self._unsent.clear()
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(failed)

    async def _send(self, stream: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unsent:
                batch, self._unsent = self._unsent[:MAX_BATCH], self._unsent[MAX_BATCH:]
                try:
                    await stream.write(pb.MakeCallsRequest(calls=batch))
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    # The task that reads the answers gets the stream's error.
                    return


def _refused(status: status_pb2.Status) -> grpc.aio.AioRpcError:
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _error(code, status.message, status.SerializeToString())
