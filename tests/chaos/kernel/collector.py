"""A log collector: it reads what a process prints from a pipe, until it goes, or stops reading with the pipe full."""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress
from pathlib import Path

_PORTION = 1 << 16
_LOOK_S = 0.1


class Collector:
    """Copies `pipe`, which it makes, into `log`."""

    def __init__(self, log: Path) -> None:
        self.pipe = log.with_suffix(".pipe")
        os.mkfifo(self.pipe)
        # Not blocking: there is no writer yet.
        self._input = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._log = log
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        with self._log.open("ab", buffering=0) as log:
            while not self._over.is_set():
                if not select.select([self._input], [], [], _LOOK_S)[0]:
                    continue
                with suppress(BlockingIOError):
                    if data := os.read(self._input, _PORTION):
                        log.write(data)
                    else:
                        # Nobody has it open: it stays readable.
                        self._over.wait(_LOOK_S)

    def go(self) -> None:
        """Closes the pipe: whoever writes to it is told that nobody reads."""
        self._stop_reading()
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def clog(self) -> None:
        """Reads no more, and fills the pipe: whoever writes to it waits."""
        self._stop_reading()
        pipe = os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
        try:
            for portion in (b"\n" * 4_096, b"\n"):
                with suppress(BlockingIOError):
                    while True:
                        os.write(pipe, portion)
        finally:
            os.close(pipe)

    def _stop_reading(self) -> None:
        self._over.set()
        self._thread.join()
