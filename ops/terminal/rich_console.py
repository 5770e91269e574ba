"""The console for tables: as wide as the terminal, or 160 columns without one.

Printed texts may come from foreign records, so the console interprets no markup and prints control characters as
escapes. Colours come from `Text` and styles.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from chassis.telemetry.printable import printable, printable_lines
from ops.terminal.streams import shown

WIDTH_OF_FILES = 160


class SafeConsole(Console):
    """A console that prints a string, also one in a table, as one line without control characters."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Rich's hook for strings. Replaces what the encoding lacks before the layout: columns stay straight."""
        text = shown(printable(text), self.encoding)
        return super().render_str(text, **{**settings, "markup": False, "emoji": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rich's hook for everything else, such as `Text`, which may have several lines."""
        for segment in super().render(renderable, options):
            if segment.control or (segment.text.isascii() and segment.text.isprintable()):
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)


def console() -> Console:
    """Creates a console on standard output."""
    return SafeConsole(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


def labelled(label: str, style: str, content: object) -> Text:
    """A line with `label` in a style, and the content."""
    return Text.assemble((label, style), " ", printable(content))
