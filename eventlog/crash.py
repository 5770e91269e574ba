"""Ends the process with code 70 when something happened that exactness rules out. A supervisor starts it again.

Nothing is acknowledged, flushed or cleaned up on the way: state in memory may be ahead of the log and must not be used.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

EXIT_CODE = 70


def die(what: str, error: BaseException | None = None, **where: object) -> NoReturn:
    """Says what happened and where on standard error, then ends the process at once, whatever else is running."""
    place = " ".join(f"{name}={value}" for name, value in where.items())
    lines = [f"stopping with code {EXIT_CODE}: {what}{' ' + place if place else ''}\n"]
    if error is not None:
        lines += traceback.format_exception(error)
    # Written past logging: its handlers may be what is broken, and os._exit flushes nothing.
    sys.stdout.flush()
    os.write(sys.stderr.fileno(), "".join(lines).encode(errors="replace"))
    os._exit(EXIT_CODE)
