"""The start of an input while another process under the same instance name continues to decide."""

from __future__ import annotations

from typing import Any

from faust.types import TP

from eventlog.faust.consumer_thread import BatchConsumerThread

INPUT = TP("inbox", 0)


class Busy:
    """A log to which another process appends, and of which it commits, one record at every query."""

    def __init__(self) -> None:
        self._end = 7

    def _next(self) -> int:
        self._end += 1
        return self._end

    async def committed(self, tp: TP) -> int:
        return self._next()

    async def beginning_offsets(self, tps: list[TP]) -> dict[TP, int]:
        self._next()
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: list[TP]) -> dict[TP, int]:
        return dict.fromkeys(tps, self._next())


async def test_a_commit_by_another_process_during_a_start_is_not_beyond_the_end_of_the_log() -> None:
    consumer = Busy()

    class Thread:
        def _ensure_consumer(self) -> Busy:
            return consumer

    thread: Any = Thread()
    found = await BatchConsumerThread._places(thread, [INPUT])
    committed, begin, end = found[INPUT]
    assert committed == 8
    # Otherwise at_committed ends the process.
    assert begin <= committed <= end
