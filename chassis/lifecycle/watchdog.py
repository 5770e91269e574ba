"""A thread that ends the process if the event loop is stuck, or if stopping takes too long.

A process with a stuck loop neither decides nor answers nor handles signals, but keeps its partitions: the consumers'
threads go on sending heartbeats. The watchdog does not touch the event loop and takes no lock that the loop's thread
may hold.
"""

from __future__ import annotations

import asyncio
import faulthandler
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

from chassis.telemetry.metrics.metrics_of_services import EVENT_LOOP_LAG
from eventlog.runtime.abort import EXIT_CODE, end, write
from eventlog.runtime.counters import Histogram

#: Seconds without a beat after which the loop is stuck. The longest step, folding a fetch of a log or opening RocksDB,
#: takes one or two seconds, and ten times as long on a busy machine with a slow disk.
STUCK_S = 30.0
#: Seconds between two beats, each of which measures how late the loop is.
BEAT_S = 0.1


class Watchdog:
    """Call `start` on the event loop, and `stop` after the loop has ended."""

    def __init__(self, stuck_s: float) -> None:
        self._stuck_s = stuck_s
        self._tick_s = min(1.0, stuck_s / 10)
        self._beat_s = min(BEAT_S, self._tick_s)
        self._beats = 0
        #: Seconds by which the loop was late at each beat.
        self.lag = Histogram(EVENT_LOOP_LAG.buckets)
        #: Monotonic time of the last beat.
        self.last_beat = time.monotonic()
        self._loop_thread = 0
        self._end_at: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Starts to watch the running event loop."""
        self._loop_thread = threading.get_ident()
        loop = asyncio.get_running_loop()
        self._beat(loop, loop.time())
        self._thread.start()

    def end_within(self, seconds: float) -> None:
        """Ends the process unless it ends by itself within these seconds."""
        self._end_at = time.monotonic() + seconds

    def stop(self) -> None:
        """Stops watching."""
        self._stopped.set()

    def _beat(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._beats += 1
        now = loop.time()
        self.lag.observe(max(now - due, 0.0))
        self.last_beat = time.monotonic()
        loop.call_at(now + self._beat_s, self._beat, loop, now + self._beat_s)

    def _watch(self) -> None:
        seen = -1
        missed_s = 0.0
        while not self._stopped.wait(self._tick_s):
            if self._end_at is not None and time.monotonic() > self._end_at:
                self._abort("the process did not stop in time")
            # Counts ticks and not time: a process that was frozen and thawed is not stuck.
            missed_s = 0.0 if self._beats != seen else missed_s + self._tick_s
            seen = self._beats
            if missed_s > self._stuck_s:
                self._abort(f"the event loop has been stuck for {self._stuck_s:g} s")

    def _abort(self, reason: str) -> NoReturn:
        stack = _stack(sys._current_frames().get(self._loop_thread))  # noqa: SLF001 - public in spite of its name

        def report() -> None:
            frames = "".join(f"  {place}\n" for place in stack)
            write(f"stopping with code {EXIT_CODE}: {reason}, at {stack[0]}\nthe event loop's thread:\n{frames}")
            # Another thread may hold the lock that the loop's thread waits for.
            faulthandler.dump_traceback(file=sys.stderr, all_threads=True)

        end(report)


def _stack(frame: FrameType | None) -> list[str]:
    """The frames of a thread, innermost first; without source lines, as the disk may be stuck."""
    places = []
    while frame is not None:
        places.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        frame = frame.f_back
    return places or ["no frame: the thread has ended"]
