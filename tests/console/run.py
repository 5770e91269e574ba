"""`make console-test`: the console in Debian's Chromium, on a whole stack of this machine.

Plays a shop, then checks every claim of docs/console.md. The last line is one JSON object with `pages axe_violations
sideways_scroll live_ms frames_in_burst` and more. Exits with 1 if a claim fails, and with 0 and `skipped` where no
browser can be had. `--pictures` writes the pictures of docs/console; `--only name` runs some checks.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.console import browser as browsers
from tests.console import checks_live as live
from tests.console import checks_looks as looks
from tests.console import checks_share as share
from tests.console.shop import Scene, Shop, play, shop_of
from tests.console.site import Site


class Run:
    """The checks of one stack, and their figures."""

    def __init__(self, browser: Browser, site: Site, shop: Shop, scene: Scene, *, pictures: bool) -> None:
        self.figures: dict[str, Any] = {}
        self.failed: list[str] = []
        self._browser = browser
        self._site = site
        self._shop = shop
        self._scene = scene
        self._pictures = pictures

    def checks(self) -> dict[str, Callable[[], None]]:
        """The checks by name, in their order."""
        browser, site, shop, scene = self._browser, self._site, self._shop, self._scene
        return {
            "live": lambda: self.figures.update(live_ms=round(live.orders_appear(browser, site, shop))),
            "tier": lambda: live.tier_turns(browser, site, shop),
            "story": self._stories,
            "money": lambda: live.money_is_the_audits(browser, site),
            "share": self._share,
            "links": lambda: share.each_link(browser, site, shop, scene),
            "share-live": lambda: share.counts_live(browser, site, shop),
            "killed": lambda: live.killed_service(browser, site, shop),
            "burst": lambda: self.figures.update(live.burst(browser, site, shop)),
            "streams": lambda: self.figures.update(live.many_streams(site)),
            "unnoticed": lambda: live.console_dies(site, shop),
            "looks": self._looks,
        }

    def run(self, only: Sequence[str]) -> None:
        """Runs all checks, or some. A failed one does not end the others."""
        for name, check in self.checks().items():
            if only and name not in only:
                continue
            began_s = time.monotonic()
            try:
                check()
            except Exception as error:  # noqa: BLE001 - reported as a failed claim
                self.failed.append(name)
                say("".join(traceback.format_exception_only(error)).strip()[:2_000])
                verdict = "FAILED"
            else:
                verdict = "holds"
            say(f"{name}: {verdict} ({time.monotonic() - began_s:.1f} s)")

    def _looks(self) -> None:
        found = looks.look(self._browser, self._urls(), write=self._pictures)
        self.figures.update(
            pages=found.pages,
            axe_violations=len(found.axe),
            sideways_scroll=len(found.sideways),
            responses_without_customers=looks.nobody(self._site, self._urls()),
        )
        assert not found.axe and not found.sideways, "\n".join([*found.axe, *found.sideways])

    def _urls(self) -> dict[str, str]:
        """Each page that people see."""
        site, shop, scene = self._site, self._shop, self._scene
        order = shop.client.get_group(scene.settled.group).leader_order
        token, closed = shop.link(scene.forming), shop.link(scene.settled)
        return {
            "live": f"{site.console}/",
            "story": f"{site.console}/{scene.settled.group}",
            "payment": f"{site.console}/{order}",
            "trace": f"{site.console}/{scene.settled.group}/trace",
            "books": f"{site.console}/books",
            "health": f"{site.console}/health",
            "repair": f"{site.console}/repair",
            "share": f"{site.share}/s/{token}",
            "share-closed": f"{site.share}/s/{closed}",
            "share-unknown": f"{site.share}/s/unknown",
        }

    def _stories(self) -> None:
        scene = self._scene
        for one in (scene.settled, scene.forming, scene.expired):
            live.same_lines(self._browser, self._site, one.key)
        order = self._shop.client.get_group(scene.settled.group).leader_order.rpartition("/")[2]
        live.same_lines(self._browser, self._site, scene.settled.key, order)

    def _share(self) -> None:
        token = share.without_script(self._browser, self._site, self._shop, self._scene)
        share.nothing_else(self._site, token)


def say(text: str) -> None:
    """Prints a line for people."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the checks. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", action="store_true", help="write the pictures of docs/console")
    parser.add_argument("--only", action="append", default=[], help="a check to run; may be repeated")
    given = parser.parse_args(arguments)
    try:
        path = browsers.find()
    except browsers.NoBrowser as error:
        sys.stdout.write(json.dumps({"skipped": str(error)}) + "\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="console-test-") as name:
        site = Site(Path(name))
        say("starting a stack with its console")
        with site.stack, shop_of(site.stack) as shop, browsers.running(path) as browser:
            say("playing a shop")
            scene = play(shop)
            say(f"played in {scene.seconds:.0f} s")
            site.wait_console()
            run = Run(browser, site, shop, scene, pictures=given.pictures)
            run.run(given.only)
    sys.stdout.write(json.dumps({**run.figures, "failed": run.failed}) + "\n")
    return 1 if run.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
