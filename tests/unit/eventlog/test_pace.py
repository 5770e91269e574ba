"""A consumer asks again at once after an answer with nothing in it, and keeps its pace after one with records."""

from __future__ import annotations

import asyncio
import time

from eventlog.transport.pace import keep_pace

PACE_S = 0.05


class Fetcher:
    """Answers as told, and notes when it was asked."""

    def __init__(self, *answers: bool) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[int, float]] = []

    async def _proc_fetch_request(self, assignment: object, node_id: int, request: object) -> bool:
        self.asked.append((node_id, time.monotonic()))
        return self._answers.pop(0)

    async def ask(self, node_id: int) -> bool:
        return await self._proc_fetch_request(None, node_id, None)


async def test_records_are_left_to_gather_after_an_answer_with_some() -> None:
    fetcher = Fetcher(True, False, False)
    keep_pace(fetcher, PACE_S)
    assert await fetcher.ask(1)
    answered = time.monotonic()
    assert not await fetcher.ask(1)
    assert fetcher.asked[1][1] - answered >= PACE_S - 0.001
    emptied = time.monotonic()
    await fetcher.ask(1)
    assert fetcher.asked[2][1] - emptied < PACE_S


async def test_each_broker_has_a_pace_of_its_own() -> None:
    fetcher = Fetcher(True, True)
    keep_pace(fetcher, 60.0)
    began = time.monotonic()
    await fetcher.ask(1)
    await fetcher.ask(2)
    assert time.monotonic() - began < 30


async def test_who_cancels_a_fetch_that_keeps_the_pace_sees_it_return() -> None:
    fetcher = Fetcher(True, True)
    keep_pace(fetcher, 60.0)
    await fetcher.ask(1)
    pausing = asyncio.ensure_future(fetcher.ask(1))
    await asyncio.sleep(0)
    pausing.cancel()
    # aiokafka's close awaits it so.
    assert not await pausing
