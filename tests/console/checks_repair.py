"""Checks of the page Repair: a password, a preview that says what follows, and the log that then has it."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from tests.console.browser import DESK, page_of
from tests.console.shop import CUSTOMER, Opened, Shop
from tests.console.site import OPERATOR, PASSWORD, Site, credentials

LOGIN = (OPERATOR, PASSWORD)
#: Where the text of a line of `groupbuy-ops show` begins.
_TEXT_AT = 40
REASON = "the maker recalls it"
_PATHS = (
    "/",
    "/events",
    "/books",
    "/health",
    "/repair",
    "/repair/CancelGroup",
    "/groups/x",
    "/static/console.css",
    "/find",
)


def needs_a_password(site: Site, desk: str) -> None:
    """Without operators nothing can be repaired; with them every page needs a password."""
    for method, path in (("GET", "/repair"), ("GET", "/repair/CancelGroup"), ("POST", "/repair/CancelGroup")):
        assert site.get(site.console + path, method=method).status == 403, path
    for path in _PATHS:
        for headers in ({}, credentials(PASSWORD, OPERATOR), credentials(OPERATOR, "wrong")):
            assert site.get(desk + path, headers=headers).status == 401, path
    # A form has to come from a page of the console, also with a password.
    cross = {**credentials(), "Sec-Fetch-Site": "cross-site"}
    for headers in (cross, credentials()):
        assert site.get(f"{desk}/repair/CancelGroup", method="POST", headers=headers).status == 403


def cancels(browser: Browser, site: Site, desk: str, shop: Shop) -> None:
    """A group is cancelled from its story; the log then has exactly the events of the preview."""
    one = shop.open(shop.campaign("Wool socks", capacity=9, tiers=((2, 8_900), (9, 7_900))))
    shop.join(one, 2)
    shop.wait_members(one, 3)
    with page_of(browser, DESK, login=LOGIN) as page:
        preview_of_cancellation(page, desk, one)
        foreseen = page.locator(".events li").all_text_contents()
        assert len(foreseen) == 7 and foreseen[0] == f"CANCELLED: {REASON} ({OPERATOR})", foreseen
        assert CUSTOMER not in page.content()
        before = _lines(site, one)
        page.locator("button.danger").click()
        expect(page.locator("h2")).to_have_text("Done: cancel group")
        assert CUSTOMER not in page.content()
    shop.wait_closed(one)
    decided = _lines(site, one)[len(before) :]
    texts = [line[_TEXT_AT:] for line in decided]
    begin = texts.index(foreseen[0])
    assert texts[begin : begin + len(foreseen)] == foreseen


def preview_of_cancellation(page: Page, desk: str, one: Opened) -> None:
    """Leads a page from the story of a group to the preview of its cancellation."""
    page.goto(f"{desk}/{one.group}")
    page.get_by_role("link", name="cancel it").click()
    page.locator("textarea").fill(REASON)
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("h2")).to_have_text("Preview: cancel group")


def refused(page: Page, payment: str, desk: str) -> None:
    """Leads a page to what the rules refuse: a call of a settled payment that is not in flight."""
    page.goto(f"{desk}/repair/GiveUpCall?name={payment}&attempt=1")
    page.locator("select").select_option(label="capture")
    page.locator("textarea").fill("to see it refused")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("alert")).to_be_visible()


def proposes(site: Site, payment: str) -> None:
    """Proposes an adjustment of the ledger, as somebody at a terminal does."""
    site.ops(
        "repair", "adjust", payment, "--from", "clearing", "--to", "adjustments", "--amount-minor", "5", "--currency",
        "CNY", "--reason", "rounding", "--payments", site.stack.endpoints["payments"],
    )  # fmt: skip


def previews_append_nothing(browser: Browser, site: Site, desk: str, order: str) -> None:
    """The preview of an approval and of a fed outcome show the events, and the log stays as it is."""
    payment, before = f"{order}/payment", site.ops("show", "order", order)
    with page_of(browser, DESK, login=LOGIN) as page:
        page.goto(f"{desk}/repair")
        page.get_by_role("link", name="approve it").first.click()
        page.locator("textarea").fill("checked with the bank")
        page.get_by_role("button", name="Preview").click()
        expect(page.locator(".events li").first).to_be_visible()
        expect(page.locator("button.danger")).to_have_text("Approve adjustment")
        page.goto(f"{desk}/repair/FeedOutcome?name={payment}")
        page.locator("select").select_option("external")
        page.get_by_role("button", name="Next").click()
        for field, value in (("hold", "unknown"), ("amount_minor", "100"), ("currency", "CNY"), ("reference", "r1")):
            page.locator(f'[name="outcome.external.{field}"]').fill(value)
        page.locator('[name="outcome.external.operation"]').select_option(label="refund")
        page.locator("textarea").fill("the statement of Monday")
        page.get_by_role("button", name="Preview").click()
        expect(page.locator("h2")).to_have_text("Preview: feed outcome")
        assert re.search(r"outcome external amount minor\s*100", page.locator("main").inner_text())
        assert CUSTOMER not in page.content()
    assert site.ops("show", "order", order) == before


def _lines(site: Site, one: Opened) -> list[str]:
    return site.ops("show", "group", one.group, "--anonymous").splitlines()
