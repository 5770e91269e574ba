"""Where the commands print their tables: as wide as the terminal, and wide enough for any table where there is none.

The console takes no text for markup, and shows what a terminal would obey as escapes: whatever is printed may hold
texts of others. Colours are given by `Text` and by styles.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from chassis.telemetry.printable import shown, shown_lines

WIDTH_OF_FILES = 160


class SafeConsole(Console):
    """Strings, cells of tables among them, are one line each. `Text` may have several; its characters are checked."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Rich's hook for every string that it meets: it becomes plain text."""
        return super().render_str(shown(text), **{**settings, "markup": False, "emoji": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rich's hook for everything else."""
        for segment in super().render(renderable, options):
            if segment.control or (segment.text.isascii() and segment.text.isprintable()):
                yield segment
            else:
                yield Segment(shown_lines(segment.text), segment.style)


def console() -> Console:
    """A console on standard output."""
    return SafeConsole(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


def labelled(label: str, style: str, said: object) -> Text:
    """`label` in a style, and what is said."""
    return Text.assemble((label, style), " ", shown(said))
