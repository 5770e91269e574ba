"""The output of every command: the result on standard output, notes on standard error.

With --json, standard output has JSON alone, one object a line; progress and notes are on standard error. A command
takes `json: Json = False`, creates an `Output`, and prints through it alone. Texts of others are printed on one line
without control characters, bidi controls and markup; see `ops.terminal.rich_console` and `ops.terminal.printing`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from ops.terminal.printing import as_json, printable, say
from ops.terminal.rich_console import console

#: The option of every command.
Json = Annotated[bool, typer.Option("--json", help="Print JSON alone, one object a line. Notes go to standard error.")]


class Output:
    """Prints the result of one command, for people or as JSON."""

    def __init__(self, json: bool = False) -> None:
        self.json = json

    @cached_property
    def console(self) -> Console:
        """The console for tables."""
        return console()

    def line(self, text: object) -> None:
        """Prints one line. Nothing with --json."""
        if not self.json:
            _write(printable(text))

    def show(self, content: RenderableType, *, soft_wrap: bool = False) -> None:
        """Prints a table, a tree or a styled text; with `soft_wrap` a text stays on one line. Nothing with --json."""
        if not self.json:
            self.console.print(content, soft_wrap=soft_wrap)

    def record(self, value: Mapping[str, Any]) -> None:
        """Prints one JSON object. Nothing without --json."""
        if self.json:
            _write(as_json(value))

    def figures(self, value: Mapping[str, Any]) -> None:
        """Prints one JSON object, with and without --json: the figures in the last line of a check."""
        _write(as_json(value))

    def note(self, text: object) -> None:
        """Writes one line to standard error: progress, or that a result is empty."""
        say(text)


def _write(text: str) -> None:
    # Flushed line by line: the reader of a pipe sees each record when it is printed.
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
