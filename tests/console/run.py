"""`make console-test`: the console in Debian's Chromium, on a whole stack of this machine.

Plays a shop, then checks every claim of docs/console.md. The last line is one JSON object with `pages axe_violations
sideways_scroll live_ms frames_in_burst` and more. Exits with 1 if a claim fails, and with 0 and `skipped` where there
is no Playwright or no browser can be had. `--pictures` writes the pictures of docs/console; `--only name` runs some
checks; `--quick` is the form for CI: without the second stack, which has stock, and with axe at one width.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the checks. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", action="store_true", help="write the pictures of docs/console")
    parser.add_argument("--only", action="append", default=[], help="a check to run; may be repeated")
    parser.add_argument("--quick", action="store_true", help="without the stack with stock, and with axe at one width")
    given = parser.parse_args(arguments)
    try:
        from tests.console import browser, session
    except ImportError as error:
        return _skipped(f"Playwright can't be imported: {error}")
    try:
        return session.run_all(browser.find(), pictures=given.pictures, quick=given.quick, only=given.only)
    except browser.NoBrowser as error:
        return _skipped(str(error))


def _skipped(why: str) -> int:
    sys.stdout.write(json.dumps({"skipped": why}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
