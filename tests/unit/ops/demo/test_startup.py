"""The sign of life while the stack starts, on terminals that can redraw and elsewhere."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console

from ops.demo.screen.startup import LINE_INTERVAL_S, Startup
from ops.terminal.rich_console import SafeConsole
from tests.unit.ops.demo.evenings import has_control_characters
from tests.waiting import wait_for_async

DEADLINE_S = 5.0


class Starting:
    """A stack that waits for one part after the other: a new one whenever the last one is on the screen."""

    def __init__(self, *parts: str) -> None:
        self.screen = io.StringIO()
        self._parts = parts

    def waiting_for(self) -> str:
        return next((part for part in self._parts if part not in self.screen.getvalue()), self._parts[-1])


async def shown(starting: Starting, console: Console, done: Callable[[], bool], now_s: Callable[[], float]) -> str:
    async def check() -> bool:
        return done()

    running = asyncio.create_task(Startup(console, starting.waiting_for, now_s).run())
    await wait_for_async(check, seconds=DEADLINE_S, every=0.01)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return starting.screen.getvalue()


async def test_every_part_is_a_line_in_a_file_and_on_a_dumb_terminal() -> None:
    for terminal in (False, True):
        starting = Starting("the broker", "orders, groups", "groups")
        console = SafeConsole(
            file=starting.screen, width=80, force_terminal=terminal, _environ={"TERM": "dumb", "COLUMNS": "80"}
        )
        text = await shown(starting, console, lambda s=starting: s.screen.getvalue().count("\n") >= 3, lambda: 7.0)  # type: ignore[misc]
        assert text.splitlines() == [
            f"starting, 0 s: waiting for {part}" for part in ("the broker", "orders, groups", "groups")
        ]
        assert not has_control_characters(text)


async def test_a_long_wait_for_one_part_is_repeated() -> None:
    starting = Starting("the broker")
    console = SafeConsole(file=starting.screen, width=80)
    time_s = iter(range(0, 10_000, 2))
    text = await shown(starting, console, lambda: starting.screen.getvalue().count("\n") >= 2, lambda: next(time_s))
    first, second = (int(line.split()[1]) for line in text.splitlines()[:2])
    assert second - first >= LINE_INTERVAL_S
    assert text.splitlines()[1].endswith("s: waiting for the broker")


async def test_a_terminal_shows_one_moving_line_and_removes_it() -> None:
    starting = Starting("orders")
    console = SafeConsole(file=starting.screen, width=80, force_terminal=True, _environ={"TERM": "xterm"})
    text = await shown(starting, console, lambda: "/ starting" in starting.screen.getvalue(), lambda: 0.0)
    assert "waiting for orders" in text
    assert text.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")
