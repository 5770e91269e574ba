"""One run of all checks: a stack with its console and a played shop, then a second stack with stock."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.console import browser as browsers
from tests.console.checks import Check, Checks
from tests.console.checks_stock import with_stock
from tests.console.shop import play, shop_of
from tests.console.site import Site

#: The figures that come first in the last line.
FIRST = ("pages", "axe_violations", "sideways_scroll", "live_ms", "frames_in_burst")


def say(text: str) -> None:
    """Prints a line for people."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Run:
    """The results of all checks."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self.failed: list[str] = []

    def run(self, checks: dict[str, Check], only: Sequence[str]) -> None:
        """Runs all checks, or some. A failed one does not end the others."""
        for name, check in checks.items():
            if only and name not in only:
                continue
            began_s = time.monotonic()
            try:
                self.figures |= check() or {}
            except Exception as error:  # noqa: BLE001 - reported as a failed claim
                self.failed.append(name)
                say("".join(traceback.format_exception_only(error)).strip()[:2_000])
                verdict = "FAILED"
            else:
                verdict = "holds"
            say(f"{name}: {verdict} ({time.monotonic() - began_s:.1f} s)")


def run_all(path: str, *, pictures: bool, quick: bool, only: Sequence[str]) -> int:
    """Runs the checks in the Chromium at `path` and prints the last line. Returns the exit code. Raises NoBrowser."""
    began_s, run = time.monotonic(), Run()
    with tempfile.TemporaryDirectory(prefix="console-test-") as name, browsers.running(path) as browser:
        with ExitStack() as stack:
            site = Site(Path(name) / "main")
            say("starting a stack with its console")
            stack.enter_context(site.stack)
            shop = stack.enter_context(shop_of(site.stack))
            say("playing a shop")
            scene = play(shop)
            say(f"played in {scene.seconds:.0f} s")
            site.wait_console()
            checks = Checks(browser, site, shop, scene, pictures=pictures, quick=quick)
            with site.desk() as desk:
                run.run(checks.at_the_desk(desk), only)
            run.run(checks.all(), only)
        if not quick and (not only or "stock" in only):
            say("starting a stack with stock")
            run.run({"stock": lambda: with_stock(browser, Path(name) / "stock", pictures=pictures)}, only)
    figures = {one: run.figures[one] for one in FIRST if one in run.figures} | run.figures
    seconds = round(time.monotonic() - began_s)
    sys.stdout.write(json.dumps({**figures, "seconds": seconds, "failed": run.failed}) + "\n")
    return 1 if run.failed else 0
