"""Keeps the log of the last evening, so that the console can show its groups after the demo."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from devstack.kafka.jars import try_lock

#: The directory of the data within a run directory, where `make up KEEP=1` finds it.
DATA = "kept"
#: The name of the run directory of the last evening.
LAST = "evening"


def keep(run_dir: Path) -> Path:
    """Gives a run directory the name of the last evening, and deletes the one before. Returns where it is now.

    The directory stays where it is if a stack runs in the one before, or its name can't be changed.
    """
    last = run_dir.parent / LAST
    if not _deleted(last):
        return run_dir
    try:
        return run_dir.rename(last)
    except OSError:
        return run_dir


def _deleted(directory: Path) -> bool:
    """Deletes a run directory unless a stack runs in it. Returns whether it is gone."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if not try_lock(handle):
            return False
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(handle)
    return not directory.exists()
