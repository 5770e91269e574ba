"""The one error of the command line: a sentence that says what is wrong and what to do, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence

USAGE = 2


class OpsError(Exception):
    """Ends a command. The message is one sentence for people; it may be followed by lines, one thing each."""

    def __init__(self, message: str, exit_code: int = 1, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.lines = tuple(lines)
