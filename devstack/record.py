"""`stack.json`: what runs where, for tools and people. Written whole or not at all; its pids are always fresh."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from devstack.supervision import private_files

NAME = "stack.json"


class Record:
    """The record of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / NAME

    def write(self, *, kafka: str, endpoints: Mapping[str, str], pids: Mapping[str, int | None]) -> None:
        """Replaces the record, one call at a time. A process that is down has no pid in it."""
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
        """Nothing runs any more."""
        self.path.unlink(missing_ok=True)

    def said(self) -> str:
        """Who wrote it, in words."""
        try:
            return f"process {json.loads(self.path.read_text(encoding='utf-8'))['supervisor']}"
        except (OSError, ValueError, KeyError):
            return "still starting"
