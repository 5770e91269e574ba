"""The error of the command line, and the exit codes of every command."""

from __future__ import annotations

from collections.abc import Sequence

#: The command did its work. Also: the reader of the output closed the pipe.
OK = 0
#: The topics, records or settings that the command checked are not as they should be.
DOES_NOT_HOLD = 1
#: The command can't run: arguments, broker, provider, file, or an unknown resource.
CANNOT_RUN = 2
#: A violated invariant of the program itself: a defect.
INVARIANT = 70
#: Ended by Ctrl-C.
INTERRUPTED = 130

#: The meaning of each code, for the help and the reference.
MEANINGS = {
    OK: "done; also if the reader of the output closes the pipe",
    DOES_NOT_HOLD: "something that was checked does not hold",
    CANNOT_RUN: "cannot run: arguments, broker, provider, a file, or an unknown resource",
    INVARIANT: "an invariant of the program does not hold: a defect",
    INTERRUPTED: "ended by Ctrl-C",
}


class OpsError(Exception):
    """Ends a command. The message is one sentence; `lines` follow it, one item each."""

    def __init__(self, message: str, exit_code: int = DOES_NOT_HOLD, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.lines = tuple(lines)


def cannot_run(message: str, lines: Sequence[str] = ()) -> OpsError:
    """The error of a command that can't run, with exit code 2."""
    return OpsError(message, CANNOT_RUN, lines)
