"""State directories are for their owner alone, whatever the umask of whoever started the process."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_FILE, _DIRECTORY = 0o600, 0o700
_OTHERS = 0o077


def from_now_on() -> None:
    """All that this process makes is for its owner alone. RocksDB makes files at any time, and knows no modes."""
    os.umask(_OTHERS)


def directory(path: Path) -> None:
    """Makes a directory, where there is none, and takes it away from others. Missing parents are private, too."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in missing or [path]:
        _take(one, _DIRECTORY)


def tree(path: Path) -> None:
    """Takes a directory and all in it away from others: an earlier build may have left it open."""
    if not path.exists():
        return
    _take(path, _DIRECTORY)
    for folder, names, files in os.walk(path):
        for name in names:
            _take(Path(folder, name), _DIRECTORY)
        for name in files:
            _take(Path(folder, name), _FILE)


def _take(path: Path, mode: int) -> None:
    try:
        found = path.lstat()
        # A link names what is not ours to change, and a sticky directory is everybody's on purpose.
        apart = stat.S_ISLNK(found.st_mode) or found.st_mode & stat.S_ISVTX or found.st_uid != os.geteuid()
        if found.st_mode & _OTHERS and not apart:
            path.chmod(mode)
    except FileNotFoundError:
        # RocksDB deletes files behind the scenes.
        return
