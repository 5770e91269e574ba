"""A thread that ends the process when the event loop is stuck, or when stopping takes too long.

A process whose loop is stuck neither decides nor answers nor hears signals, but its partitions stay its own: consumers
have threads of their own, which go on telling the broker that they live. The watchdog does not touch the event loop and
takes no lock that the loop's thread may hold.
"""

from __future__ import annotations

import asyncio
import faulthandler
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

from eventlog.runtime.abort import EXIT_CODE, end, write

#: Seconds without a sign of life after which the loop is stuck. The longest work in one piece, folding what was fetched
#: of a log or opening RocksDB, takes one or two; on a busy machine with a slow disk it may take ten times as long.
STUCK_S = 30.0


class Watchdog:
    """`start` it on the event loop; `beat` runs there. `stop` it when the loop is gone."""

    def __init__(self, stuck_s: float) -> None:
        self._stuck_s = stuck_s
        self._tick_s = min(1.0, stuck_s / 10)
        self._beats = 0
        self._loop_thread = 0
        self._end_at: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begins to watch the running event loop."""
        self._loop_thread = threading.get_ident()
        self._beat(asyncio.get_running_loop())
        self._thread.start()

    def end_within(self, seconds: float) -> None:
        """From now on the process has so long to end by itself."""
        self._end_at = time.monotonic() + seconds

    def stop(self) -> None:
        """Watches no more."""
        self._stopped.set()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beats += 1
        loop.call_later(self._tick_s, self._beat, loop)

    def _watch(self) -> None:
        seen = -1
        missed_s = 0.0
        while not self._stopped.wait(self._tick_s):
            if self._end_at is not None and time.monotonic() > self._end_at:
                self._die("it was told to stop and has not ended in time")
            # Ticks are counted, not time: a process that was frozen and thawed is not stuck.
            missed_s = 0.0 if self._beats != seen else missed_s + self._tick_s
            seen = self._beats
            if missed_s > self._stuck_s:
                self._die(f"the event loop has been stuck for {self._stuck_s:g} s")

    def _die(self, why: str) -> NoReturn:
        stack = _stack(sys._current_frames().get(self._loop_thread))

        def speak() -> None:
            where = "".join(f"  {place}\n" for place in stack)
            write(f"stopping with code {EXIT_CODE}: {why}, at {stack[0]}\nthe event loop's thread:\n{where}")
            # The lock that it waits for may be held by another thread.
            faulthandler.dump_traceback(file=sys.stderr, all_threads=True)

        end(speak)


def _stack(frame: FrameType | None) -> list[str]:
    """Where a thread is, innermost first; without the text of the lines, since the disk may be what is stuck."""
    places = []
    while frame is not None:
        places.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        frame = frame.f_back
    return places or ["nowhere: its thread has ended"]
