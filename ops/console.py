"""Where the commands print their tables: as wide as the terminal, and wide enough for any table where there is none."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH_OF_FILES = 160


def console() -> Console:
    """A console on standard output."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
