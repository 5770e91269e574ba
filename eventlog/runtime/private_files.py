"""Permissions of state directories: only their owner has access, whatever the umask of the process."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import IO

_FILE, _DIRECTORY = 0o600, 0o700
_OTHERS = 0o077


class InUse(Exception):
    """Another process has locked a directory."""


def from_now_on() -> None:
    """Makes all files that the process creates from now on private. RocksDB creates files without a mode of its own."""
    os.umask(_OTHERS)


def directory(path: Path) -> None:
    """Creates a directory with its missing parents, all of them private. Makes an existing directory private."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in missing or [path]:
        _make_private(one, _DIRECTORY)


def lock_directory(path: Path) -> IO[bytes]:
    """Creates a directory and locks it until the returned file is closed. Both are private, also if they existed.

    Raises InUse.
    """
    directory(path)
    name = path / "lock"
    lock = os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE), "r+b")
    _make_private(name, _FILE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise InUse(str(path)) from error
    return lock


def tree(path: Path) -> None:
    """Makes a directory and everything in it private: an earlier build may have left it readable."""
    if not path.exists():
        return
    _make_private(path, _DIRECTORY)
    for folder, names, files in os.walk(path):
        for name in names:
            _make_private(Path(folder, name), _DIRECTORY)
        for name in files:
            _make_private(Path(folder, name), _FILE)


def _make_private(path: Path, mode: int) -> None:
    try:
        found = path.lstat()
        # Leave a link alone, since its target may be elsewhere, and a sticky directory, which is shared on purpose.
        exempt = stat.S_ISLNK(found.st_mode) or found.st_mode & stat.S_ISVTX or found.st_uid != os.geteuid()
        if found.st_mode & _OTHERS and not exempt:
            path.chmod(mode)
    except FileNotFoundError:
        # RocksDB deletes files in the background.
        return
