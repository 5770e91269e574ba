"""All checks of one system by name, in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.console import checks_live as live
from tests.console import checks_looks as looks
from tests.console import checks_repair as repair
from tests.console import checks_share as share
from tests.console import checks_stock as stock
from tests.console.checks_looks import View
from tests.console.shop import Opened, Scene, Shop
from tests.console.site import Site

#: A check returns figures, or none, and raises AssertionError.
Check = Callable[[], dict[str, Any] | None]
_NOBODY = "00000000-0000-4000-8000-000000000000"


class Checks:
    """The checks of a stack with a scene."""

    def __init__(self, browser: Browser, site: Site, shop: Shop, scene: Scene, *, pictures: bool, quick: bool) -> None:
        self._browser = browser
        self._site = site
        self._shop = shop
        self._scene = scene
        self._pictures = pictures
        self._quick = quick

    def at_the_desk(self, desk: str) -> dict[str, Check]:
        """The checks that need a second console, with passwords, at `desk`. They see the scene as it was played."""
        return {"looks": lambda: self._looks(desk), "repair": lambda: self._repair(desk)}

    def all(self) -> dict[str, Check]:
        """The other checks."""
        browser, site, shop = self._browser, self._site, self._shop
        return {
            "live": lambda: {"live_ms": round(live.orders_appear(browser, site, shop))},
            "tier": lambda: live.tier_turns(browser, site, shop),
            "keyboard": lambda: live.keyboard(browser, site, shop),
            "story": self._stories,
            "money": lambda: live.money_is_the_audits(browser, site),
            "readers": lambda: stock.readers_are_off(site),
            "share": self._share,
            "share-live": lambda: share.counts_live(browser, site, shop),
            "killed": lambda: live.killed_service(browser, site, shop),
            "burst": lambda: live.burst(browser, site, shop),
            "streams": lambda: live.many_streams(site, shop),
        }

    def _order(self) -> str:
        """An order of the settled group."""
        return str(self._shop.client.get_group(self._scene.settled.group).leader_order)

    def _stories(self) -> None:
        scene = self._scene
        for name in (scene.settled.group, scene.forming.group, scene.expired.group, self._order()):
            live.same_lines(self._browser, self._site, name)

    def _share(self) -> None:
        token = share.without_script(self._browser, self._site, self._shop, self._scene)
        share.nothing_else(self._site, token)

    def _repair(self, desk: str) -> None:
        repair.proposes(self._site, f"{self._order()}/payment")
        repair.needs_a_password(self._site, desk)
        repair.previews_append_nothing(self._browser, self._site, desk, self._order())
        repair.cancels(self._browser, self._site, desk, self._shop)

    def _looks(self, desk: str) -> dict[str, Any]:
        expired, tampered = share.each_link(self._browser, self._site, self._shop, self._scene)
        repair.proposes(self._site, f"{self._order()}/payment")
        views = self._operators() | self._repairs(desk) | self._strangers(expired, tampered)
        found = looks.look(self._browser, views, write=self._pictures, quick=self._quick)
        assert not found.axe and not found.sideways, "\n".join([*found.axe, *found.sideways])
        open_to_all = [view.url for view in views.values() if view.login is None]
        return {
            "pages": found.pages,
            "axe_violations": len(found.axe),
            "sideways_scroll": len(found.sideways),
            "responses_without_customers": looks.nobody(self._site, open_to_all),
        }

    def _operators(self) -> dict[str, View]:
        """The pages for operators that need no password here."""
        console, scene = self._site.console, self._scene
        campaign = scene.forming.campaign.removeprefix("campaigns/")
        return {
            "live": View(f"{console}/"),
            "live-campaign": View(f"{console}/?campaign={campaign}", picture=False),
            "story": View(f"{console}/{scene.settled.group}"),
            "story-open": View(f"{console}/{scene.forming.group}", act=_open_lines, picture=False),
            "story-expired": View(f"{console}/{scene.expired.group}", picture=False),
            "payment": View(f"{console}/{self._order()}"),
            "trace": View(f"{console}/{scene.settled.group}/trace"),
            "books": View(f"{console}/books"),
            "health": View(f"{console}/health"),
            "health-partitions": View(f"{console}/health", act=_open_partitions, picture=False),
            "repair-off": View(f"{console}/repair", picture=False),
            "not-found": View(f"{console}/find?q=nothing", picture=False),
            "not-in-the-log": View(f"{console}/groups/{_NOBODY}", picture=False),
        }

    def _repairs(self, desk: str) -> dict[str, View]:
        """The page Repair in all its states."""
        login, one = repair.LOGIN, self._scene.forming
        payment = f"{self._order()}/payment"
        return {
            "repair": View(f"{desk}/repair", login),
            "repair-form": View(f"{desk}/repair/MarkReturnedOutside?name={payment}", login, picture=False),
            "repair-result": View(f"{desk}/repair/FeedOutcome?name={payment}", login, picture=False),
            "repair-outcome": View(f"{desk}/repair/FeedOutcome?name={payment}&result=dispute", login, picture=False),
            "repair-preview": View(f"{desk}/", login, act=_previewing(desk, one)),
            "repair-refused": View(
                f"{desk}/", login, act=lambda page: repair.refused(page, payment, desk), picture=False
            ),
        }

    def _strangers(self, expired: str, tampered: str) -> dict[str, View]:
        """The pages of share links."""
        shop, scene, base = self._shop, self._scene, f"{self._site.share}/s"
        token, closed = shop.link(scene.forming), shop.link(scene.settled)
        campaign = shop.link(scene.forming._replace(group=scene.forming.campaign))
        return {
            "share": View(f"{base}/{token}"),
            "share-chinese": View(f"{base}/{token}", language="zh-CN", picture=False),
            "share-closed": View(f"{base}/{closed}"),
            "share-closed-chinese": View(f"{base}/{closed}", language="zh-CN", picture=False),
            "share-campaign": View(f"{base}/{campaign}", picture=False),
            "share-expired-group": View(f"{base}/{shop.link(scene.expired)}", picture=False),
            "share-expired": View(f"{base}/{expired}", picture=False),
            "share-tampered": View(f"{base}/{tampered}", picture=False),
            "share-unknown": View(f"{base}/unknown"),
        }


def _open_lines(page: Page) -> None:
    for line in page.locator("#lines summary").all()[:3]:
        line.click()
    expect(page.locator("#lines .hash").first).to_be_visible()


def _open_partitions(page: Page) -> None:
    page.locator("details.all > summary").click()


def _previewing(desk: str, one: Opened) -> Callable[[Page], None]:
    return lambda page: repair.preview_of_cancellation(page, desk, one)
