"""Memory of a process."""

from __future__ import annotations

from pathlib import Path


def rss_mb(pid: int) -> int:
    """Peak resident memory of a process since its last exec, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) // 1024
