"""Group commit: one task writes all waiting calls in one transaction.

While a thread writes a transaction, the next calls queue up, so under load more calls share a commit. A caller gets its
answer after the commit. A call whose caller was cancelled takes effect all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.account_book import AccountBook, Request

T = TypeVar("T")

#: Most calls in one transaction; each caller waits for the whole transaction.
MAX_BATCH = 500


class _QueuedCall(NamedTuple):
    request: Request
    answer: asyncio.Future[pb.CallResult]


class GroupCommit:
    """Applies calls to an account book in batches."""

    def __init__(self, book: AccountBook) -> None:
        self._book = book
        self._queue: asyncio.Queue[_QueuedCall | None] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="account book")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the writing task. Call it on the event loop of the callers."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Writes the queued calls and ends. No call may be submitted afterwards."""
        if self._task is not None:
            self._queue.put_nowait(None)
            await self._task
        self._thread.shutdown()

    async def submit(self, request: Request) -> pb.CallResult:
        """Applies a call. Raises Refusal; after any other error nothing was written."""
        answer: asyncio.Future[pb.CallResult] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_QueuedCall(request, answer))
        return await answer

    async def run(self, work: Callable[[], T]) -> T:
        """Runs work on the account book between two transactions, in the writing thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _run(self) -> None:
        while (first := await self._queue.get()) is not None:
            batch, ends = [first], False
            while len(batch) < MAX_BATCH and not self._queue.empty() and not ends:
                one = self._queue.get_nowait()
                if one is None:
                    ends = True
                else:
                    batch.append(one)
            await self._write(batch)
            if ends:
                return

    async def _write(self, batch: Sequence[_QueuedCall]) -> None:
        loop = asyncio.get_running_loop()
        answers: Sequence[pb.CallResult | Exception]
        try:
            answers = await loop.run_in_executor(self._thread, self._book.apply, [one.request for one in batch])
        except Exception as error:  # noqa: BLE001 - each caller of the batch gets it
            answers = [error] * len(batch)
        for one, answer in zip(batch, answers, strict=True):
            if one.answer.done():
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
