"""The record of a process's runs in its state directory: how many there were, and how the last one ended.

The file has one line of fixed length, so that a process that aborts can write its exit code with one call.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

NAME = "runs"
#: Code of a run that ended without recording one: it was killed, or the machine stopped.
KILLED = -1

_LINE = re.compile(rb"(\d{10}) ([ \d]{3}|run)\n")


class RunRecord:
    """The runs so far, this one included."""

    def __init__(self, state_dir: Path) -> None:
        """Counts this run. The directory exists and belongs to this process. Raises OSError."""
        self._file = os.open(state_dir / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        found = _LINE.fullmatch(os.pread(self._file, 64, 0))
        #: Number of this run.
        self.starts = 1 + (int(found[1]) if found else 0)
        #: Exit code of the run before; None at the first.
        self.last_code = None if found is None else KILLED if found[2] == b"run" else int(found[2])
        os.pwrite(self._file, f"{self.starts:010} run\n".encode(), 0)

    def end(self, code: int) -> None:
        """Records the exit code of this run. May be called on any thread, and again."""
        os.pwrite(self._file, f"{code:3}".encode(), 11)
