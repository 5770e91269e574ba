"""Runs a module of the runtime: `python -m groupbuy_settlement services.orders`.

The wheel keeps the modules with generic names (`services`, `ops`, `eventlog` and others) in the folder `_runtime`. Only
a process that starts here has this folder on its import path. In a clone these modules are at the top of the
repository.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def enter_runtime() -> None:
    """Puts the runtime first on the import path of this process."""
    here = Path(__file__).resolve().parent
    installed = here / "_runtime"
    sys.path[:0] = [str(installed)] if installed.is_dir() else [str(here.parent), str(here.parent / "gen")]


def ops() -> int:
    """The console script `groupbuy-ops`. Returns the exit code."""
    enter_runtime()
    from ops.main import main as run_ops

    return run_ops()


def main() -> None:
    """Runs the module that the first argument names, with the other arguments. Exits with 2 if there is none."""
    if len(sys.argv) < 2:
        sys.stderr.write("usage: python -m groupbuy_settlement MODULE [ARGUMENT...]\n")
        raise SystemExit(2)
    enter_runtime()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
