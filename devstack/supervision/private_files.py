"""Files and directories that only their owner may read, independent of the umask: keys, passwords, logs, data."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OTHERS = 0o077


def directory(path: Path) -> Path:
    """Creates a directory with its missing parents, if needed, and makes them private."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in missing or [path]:
        found = one.stat()
        # A sticky directory, such as /tmp, is shared on purpose.
        if found.st_mode & _OTHERS and found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
            one.chmod(0o700)
    return path


def opened(path: Path, flags: int) -> int:
    """Opens a file for writing, creates it if needed, and makes it private."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    os.fchmod(handle, 0o600)
    return handle


def replace(path: Path, content: bytes) -> None:
    """Replaces a file atomically: a reader sees the old content or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    write(beside, content)
    beside.replace(path)


def write(path: Path, content: bytes) -> None:
    """Writes a whole file."""
    with os.fdopen(opened(path, os.O_TRUNC), "wb") as file:
        file.write(content)
