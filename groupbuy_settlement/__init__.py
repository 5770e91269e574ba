"""The private runtime of group buying. Other repositories start its processes and import nothing from it."""

from __future__ import annotations

import sys


def command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of the runtime in a process of its own, from any directory."""
    # -P: the caller's directory may have packages of the same names.
    return (sys.executable, "-P", "-m", __name__, module, *arguments)
