"""Draws the pictures of `make demo` from a recorded evening, with the code that draws the demo.

`groupbuy-ops demo --orders 300 --record docs/demo-history.gz` recorded it from a real broker and real services.
"""

from __future__ import annotations

import io
from pathlib import Path

from ops.demo.history import replay
from ops.demo.screen.results import print_results
from ops.demo.screen.view import View
from ops.terminal.rich_console import SafeConsole

FOLDER = Path(__file__).parent
HISTORY = FOLDER / "demo-history.gz"
#: (columns, lines) of the terminals.
SIZES = ((200, 50), (80, 24))


def pictures() -> dict[Path, str]:
    """Each picture and its SVG: the running evening on both terminals, and the results at both widths."""
    drawn_at_s = _best_moment_s()
    found: dict[Path, str] = {}
    for view in replay(HISTORY):
        if view.now_s() == drawn_at_s:
            for width, height in SIZES:
                console = _terminal(width, height)
                console.print(view)
                found[FOLDER / f"demo-{width}x{height}.svg"] = _svg(console)
    for width, height in SIZES:
        console = _terminal(width, height)
        print_results(console, view.board, view.tally)
        found[FOLDER / f"demo-results-{width}.svg"] = _svg(console)
    return found


def _best_moment_s() -> float:
    """The time of the frame with the most forming groups, once a service was restarted and a member is unpaid."""
    moments = [(len(view.board.forming()), view.now_s()) for view in replay(HISTORY) if _eventful(view)]
    return max(moments)[1]


def _eventful(view: View) -> bool:
    restarted = any(state.restarts for state in view.services.states().values())
    return restarted and any(sums.unpaid_members for sums in view.board.money().values())


def _terminal(width: int, height: int) -> SafeConsole:
    return SafeConsole(
        file=io.StringIO(), record=True, width=width, height=height, force_terminal=True, color_system="truecolor"
    )


def _svg(console: SafeConsole) -> str:
    return console.export_svg(title="make demo")
