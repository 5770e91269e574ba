"""A stamp of a file that changes with its content, to detect that it must be read again."""

from __future__ import annotations

from pathlib import Path

#: Inode, time of modification and size; None for a file that can't be read.
Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """The current stamp of a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
