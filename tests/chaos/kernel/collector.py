"""A log collector: reads the output of a process from a pipe, until it closes the pipe or stalls with the pipe full."""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress
from pathlib import Path

_BLOCK = 1 << 16
_POLL_S = 0.1


class Collector:
    """Creates the named pipe `pipe`, and copies it to `log`."""

    def __init__(self, log: Path) -> None:
        self.pipe = log.with_suffix(".pipe")
        os.mkfifo(self.pipe)
        # A blocking open would wait for the first writer.
        self._input = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._log = log
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        with self._log.open("ab", buffering=0) as log:
            while not self._stopped.is_set():
                if not select.select([self._input], [], [], _POLL_S)[0]:
                    continue
                with suppress(BlockingIOError):
                    if data := os.read(self._input, _BLOCK):
                        log.write(data)
                    else:
                        # At the end of the file, without a writer, select returns at once.
                        self._stopped.wait(_POLL_S)

    def close(self) -> None:
        """Closes the pipe: writers get EPIPE."""
        self._stop_reading()
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def stall(self) -> None:
        """Stops reading and fills the pipe: writers block."""
        self._stop_reading()
        pipe = os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
        try:
            for block in (b"\n" * 4_096, b"\n"):
                with suppress(BlockingIOError):
                    while True:
                        os.write(pipe, block)
        finally:
            os.close(pipe)

    def _stop_reading(self) -> None:
        self._stopped.set()
        self._thread.join()
