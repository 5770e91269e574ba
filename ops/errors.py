"""The error of the command line: a sentence with the problem and the way out, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence

USAGE = 2


class OpsError(Exception):
    """Ends a command. The message is one sentence; `lines` follow it, one item each."""

    def __init__(self, message: str, exit_code: int = 1, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.lines = tuple(lines)
