"""`make up`, `python -m devstack`. Ctrl-C during the imports ends it with code 130, as later."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs a stack in the foreground. Returns the exit code."""
    try:
        from devstack.up import main as run_stack

        return run_stack()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
