"""Group commit: one task takes all calls that are waiting and writes them in one transaction.

While a transaction is written, in a thread of its own, the next calls gather; so the busier it is, the more calls share
a commit. A caller gets its answer after the commit, never before; a caller that went away changes nothing: its call has
been taken and takes effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts import Ledger, Request

T = TypeVar("T")

#: Most calls in one transaction: a caller waits for the others, so not for too many.
BATCH = 500


class _Waiting(NamedTuple):
    request: Request
    answer: asyncio.Future[pb.CallResult]


class Writer:
    """Writes calls to a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to write. On the event loop that the calls come from."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Writes what waits, then ends. No call may come after."""
        if self._task is not None:
            self._queue.put_nowait(None)
            await self._task
        self._thread.shutdown()

    async def submit(self, request: Request) -> pb.CallResult:
        """Makes a call. Raises Refusal; any other error means that nothing was written."""
        answer: asyncio.Future[pb.CallResult] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(request, answer))
        return await answer

    async def ask(self, question: Callable[[], T]) -> T:
        """Asks or changes the books between two transactions, in the thread that writes them."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)

    async def _run(self) -> None:
        while (first := await self._queue.get()) is not None:
            batch, ends = [first], False
            while len(batch) < BATCH and not self._queue.empty() and not ends:
                one = self._queue.get_nowait()
                if one is None:
                    ends = True
                else:
                    batch.append(one)
            await self._write(batch)
            if ends:
                return

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        answers: Sequence[pb.CallResult | Exception]
        try:
            answers = await loop.run_in_executor(self._thread, self._ledger.apply, [one.request for one in batch])
        except Exception as error:  # noqa: BLE001 - every caller of the batch gets it
            answers = [error] * len(batch)
        for one, answer in zip(batch, answers, strict=True):
            if one.answer.done():
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
