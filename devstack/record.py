"""Files about a running stack: `stack.json`, and `stack.env` for shells. Replaced atomically, removed at the stop."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from devstack.supervision import private_files

#: Addresses and process ids.
NAME = "stack.json"
#: `export` lines with the addresses.
VARIABLES = "stack.env"


class Record:
    """The record in one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / NAME
        self.variables = run_dir / VARIABLES

    def write(self, *, kafka: str, endpoints: Mapping[str, str], pids: Mapping[str, int | None]) -> None:
        """Replaces the record. The caller serialises calls. A process that is down has no entry in `pids`."""
        content = {
            "kafka": kafka,
            "endpoints": dict(endpoints),
            "pids": {name: pid for name, pid in pids.items() if pid is not None},
            "run_dir": str(self.path.parent),
            "supervisor": os.getpid(),
        }
        private_files.replace(self.path, (json.dumps(content, indent=2) + "\n").encode())

    def write_variables(self, variables: Mapping[str, str]) -> None:
        """Replaces the file for shells."""
        private_files.replace(self.variables, os.fsencode(exports(variables)))

    def remove(self) -> None:
        """Deletes both files."""
        self.path.unlink(missing_ok=True)
        self.variables.unlink(missing_ok=True)

    def owner(self) -> str:
        """The supervisor that wrote the record, for a message."""
        try:
            return f"process {json.loads(self.path.read_text(encoding='utf-8'))['supervisor']}"
        except (OSError, ValueError, KeyError):
            return "still starting"


def exports(variables: Mapping[str, str]) -> str:
    """A line for each variable that a POSIX shell reads."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
