"""`stack.json`: addresses and process ids of a running stack, for tools and people. Replaced atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from devstack.supervision import private_files

NAME = "stack.json"


class Record:
    """The record in one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / NAME

    def write(self, *, kafka: str, endpoints: Mapping[str, str], pids: Mapping[str, int | None]) -> None:
        """Replaces the record. The caller serialises calls. A process that is down has no entry in `pids`."""
        content = {
            "kafka": kafka,
            "endpoints": dict(endpoints),
            "pids": {name: pid for name, pid in pids.items() if pid is not None},
            "run_dir": str(self.path.parent),
            "supervisor": os.getpid(),
        }
        beside = self.path.with_name(f".{NAME}.{os.getpid()}")
        private_files.write(beside, (json.dumps(content, indent=2) + "\n").encode())
        beside.replace(self.path)

    def remove(self) -> None:
        """Deletes the record."""
        self.path.unlink(missing_ok=True)

    def owner(self) -> str:
        """The supervisor that wrote the record, for a message."""
        try:
            return f"process {json.loads(self.path.read_text(encoding='utf-8'))['supervisor']}"
        except (OSError, ValueError, KeyError):
            return "still starting"
