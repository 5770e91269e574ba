"""Files and directories for their owner alone, whatever the umask: keys, passwords, logs, the broker's data."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OTHERS = 0o077


def directory(path: Path) -> Path:
    """Makes a directory, where there is none, with missing parents; all that it makes, and itself, is private."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in missing or [path]:
        found = one.stat()
        # A sticky directory is everybody's on purpose.
        if found.st_mode & _OTHERS and found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
            one.chmod(0o700)
    return path


def opened(path: Path, flags: int) -> int:
    """Opens a file to be written, made where there is none; an earlier one with a wider mode is taken back first."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    os.fchmod(handle, 0o600)
    return handle


def write(path: Path, content: bytes) -> None:
    """Writes a whole file."""
    with os.fdopen(opened(path, os.O_TRUNC), "wb") as file:
        file.write(content)
