"""A thread that ends the process when the event loop is stuck, or when stopping takes too long.

A process whose loop is stuck neither decides nor answers nor hears signals, but its partitions stay its own. Must never
touch the event loop, nor take a lock that the loop's thread may hold.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time

from eventlog.crash import EXIT_CODE

#: Seconds without a sign of life after which the loop is stuck.
STUCK_S = 30.0
_LAST_WORDS_S = 5.0


class Watchdog:
    """`start` it on the event loop; `beat` runs there. `stop` it when the loop is gone."""

    def __init__(self, stuck_s: float) -> None:
        self._stuck_s = stuck_s
        self._tick_s = min(1.0, stuck_s / 10)
        self._beats = 0
        self._end_at: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begins to watch the running event loop."""
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
                _die("it was told to stop and has not ended in time")
            # Ticks are counted, not time: a process that was frozen and thawed is not stuck.
            missed_s = 0.0 if self._beats != seen else missed_s + self._tick_s
            seen = self._beats
            if missed_s > self._stuck_s:
                _die(f"the event loop has been stuck for {self._stuck_s:g} s")


def _die(why: str) -> None:
    def speak() -> None:
        os.write(sys.stderr.fileno(), f"stopping with code {EXIT_CODE}: {why}\n".encode())
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)

    # Nobody may be reading standard error, which may be what the loop is stuck at.
    words = threading.Thread(target=speak, name="last-words", daemon=True)
    words.start()
    words.join(_LAST_WORDS_S)
    os._exit(EXIT_CODE)
