"""The sign of life while the stack starts: the part that is being waited for, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ops.demo.screen.view import FRAMES_PER_SECOND, animated

#: A line is printed for each change, and after so many seconds without one.
LINE_INTERVAL_S = 5.0
POLL_S = 0.25
_SPINNER = "|/-\\"


@dataclass(slots=True)
class Startup:
    """Shows `waiting_for`, which names the part and may block for seconds, until it is cancelled."""

    console: Console
    waiting_for: Callable[[], str]
    now_s: Callable[[], float] = time.monotonic
    _part: str = ""

    async def run(self) -> None:
        """Polls and shows. Ends by cancellation alone."""
        started_s = self.now_s()
        polling = asyncio.create_task(self._poll())
        try:
            if animated(self.console):
                await self._animate(started_s)
            else:
                await self._print_lines(started_s)
        finally:
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling

    async def _poll(self) -> None:
        while True:
            self._part = await asyncio.to_thread(self.waiting_for)
            await asyncio.sleep(POLL_S)

    async def _animate(self, started_s: float) -> None:
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            for frame in range(10**9):
                sign = _SPINNER[frame % len(_SPINNER)]
                live.update(Text(f"{sign} {self._line(started_s)}", no_wrap=True, overflow="ellipsis"), refresh=True)
                await asyncio.sleep(1 / FRAMES_PER_SECOND)

    async def _print_lines(self, started_s: float) -> None:
        printed, at_s = "", started_s
        while True:
            part, now_s = self._part, self.now_s()
            if part and (part != printed or now_s - at_s >= LINE_INTERVAL_S):
                printed, at_s = part, now_s
                self.console.print(self._line(started_s), soft_wrap=not self.console.is_terminal)
            await asyncio.sleep(1 / FRAMES_PER_SECOND)

    def _line(self, started_s: float) -> str:
        seconds = int(self.now_s() - started_s)
        return f"starting, {seconds} s" + (f": waiting for {self._part}" if self._part else "")
