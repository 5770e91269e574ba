"""Checks of the public page: without JavaScript, in two languages, for every kind of link, and nothing else."""

from __future__ import annotations

import io
import re
import urllib.parse

import segno
from PIL import Image
from playwright.sync_api import Browser, expect

from devstack.supervision.waiting import wait_for
from tests.console.browser import PHONE, page_of
from tests.console.shop import Scene, Shop
from tests.console.site import Site

#: Paths and methods that a stranger may try.
_ELSEWHERE = (
    "/",
    "/s",
    "/s/",
    "/events",
    "/books",
    "/repair",
    "/live",
    "/metrics",
    "/static/console.js",
    "/s/a/b",
    "/robots.txt",
)
_METHODS = ("POST", "PUT", "DELETE", "OPTIONS", "PATCH")
_POLICY = "default-src 'none'"


def without_script(browser: Browser, site: Site, shop: Shop, scene: Scene) -> str:
    """The page of an open group without JavaScript. Returns its token."""
    token = shop.link(scene.forming)
    with page_of(browser, PHONE, script=False) as page:
        page.goto(f"{site.share}/s/{token}")
        expect(page.locator("h1")).to_have_text("Yixing teapot")
        expect(page.locator(".price strong")).to_have_text("¥179.00")
        expect(page.locator(".next").first).to_contain_text("5 more and everybody pays ¥149.00")
        expect(page.locator(".dots .paid")).to_have_count(5)
        expect(page.locator("svg.qr")).to_be_visible()
        expect(page.locator("time")).to_contain_text("until")
        join = page.locator("a.join").get_attribute("href") or ""
        wanted = urllib.parse.quote(scene.forming.group, safe="")
        assert join.startswith("https://shop.example/join?") and wanted in join and token in join, join
        picture = page.locator('meta[property="og:image"]').get_attribute("content") or ""
        assert page.locator('meta[property="og:title"]').get_attribute("content") == "Yixing teapot: ¥179.00 together"
    drawn = site.get(picture)
    assert drawn.status == 200 and drawn.headers["Content-Type"] == "image/png"
    with Image.open(io.BytesIO(drawn.body)) as image:
        assert image.size == (1200, 630) and len(image.getcolors(256) or ()) > 4
    with page_of(browser, PHONE, script=False, language="zh-CN") as page:
        page.goto(f"{site.share}/s/{token}")
        assert page.locator("html").get_attribute("lang") == "zh-Hans"
        expect(page.locator("a.join")).to_have_text("立即参团")
        expect(page.locator(".next").first).to_contain_text("再来 5 人，每人只付 ¥149.00")
        assert page.locator('meta[property="og:title"]').get_attribute("content") == "Yixing teapot：一起买 ¥179.00"
        chinese = page.locator('meta[property="og:image"]').get_attribute("content") or ""
        assert chinese.endswith("lang=zh") and site.get(chinese).status == 200
    # The QR code is that of the page's own address.
    code = segno.make(f"{site.share}/s/{token}", error="m", micro=False)
    drawn_code = code.svg_inline(border=2, omitsize=True, svgclass="qr", lineclass=None)
    assert drawn_code in site.get(f"{site.share}/s/{token}").text
    return token


def counts_live(browser: Browser, site: Site, shop: Shop) -> None:
    """A join shows on an open page without a reload; a kill of the groups service is named and survived."""
    one = shop.open(shop.campaign("Silk scarf"))
    shop.wait_members(one, 1)
    with page_of(browser, PHONE) as page:
        page.goto(f"{site.share}/s/{shop.link(one)}")
        expect(page.locator(".dots .paid")).to_have_count(1)
        expect(page.locator("body")).to_have_attribute("data-live", "yes")
        shop.join(one)
        expect(page.locator(".dots .paid")).to_have_count(2)
        expect(page.locator(".price strong")).to_have_text("¥109.00")
        site.stack.kill("groups")
        expect(page.locator("#away")).to_have_text("reconnecting…")
        site.stack.wait_serving("groups")
        shop.join(one)
        expect(page.locator(".dots .paid")).to_have_count(3)
        expect(page.locator("#away")).to_be_empty()
        # The last seat completes the group: the page leads to others.
        shop.join(one)
        expect(page.locator("h1")).to_have_text("This group is complete")


def each_link(browser: Browser, site: Site, shop: Shop, scene: Scene) -> tuple[str, str]:
    """Closed, expired, tampered and unknown links have a page each, in both languages.

    Returns the tokens of an expired link and of a tampered one.
    """
    token = shop.link(scene.forming)
    swapped = ("A" if token[-6] != "A" else "B").join((token[:-6], token[-5:]))
    short = shop.link(scene.forming, ttl_s=1)
    if not wait_for(lambda: site.get(f"{site.share}/s/{short}").status == 410, timeout_s=20, every_s=0.3):
        raise AssertionError("a link of one second does not expire")
    closed = shop.link(scene.settled)
    expired = shop.link(scene.expired)
    cases = (
        (closed, 200, "This group is complete", "已成团"),
        (expired, 200, "This group ran out of time", "拼团已结束"),
        (short, 410, "This link has expired", "链接已过期"),
        (swapped, 404, "This link was changed", "链接已被改动"),
        ("nonsense", 404, "This link is not known", "无法识别的链接"),
    )
    for language, column in (("en-GB", 2), ("zh-CN", 3)):
        with page_of(browser, PHONE, script=False, language=language) as page:
            for case in cases:
                answer = page.goto(f"{site.share}/s/{case[0]}")
                assert answer is not None and answer.status == case[1], (case, answer and answer.status)
                expect(page.locator("h1")).to_have_text(str(case[column]))
    with page_of(browser, PHONE, script=False) as page:
        page.goto(f"{site.share}/s/{closed}")
        others = page.locator(".others a")
        expect(others.first).to_be_visible()
        followed = others.first.get_attribute("href") or ""
        assert re.fullmatch(r"/s/[\w.~-]+", followed), followed
        page.goto(f"{site.share}{followed}")
        expect(page.locator("a.join")).to_be_visible()
    return short, swapped


def nothing_else(site: Site, token: str) -> None:
    """Every other path and method is 404, and every response has the headers."""
    for path in (*_ELSEWHERE, f"/s/{token}/", f"/s/{token}/trace", f"/groups/{token}"):
        answer = site.get(site.share + path)
        assert answer.status == 404, (path, answer.status)
        _headers(answer.headers)
    for method in _METHODS:
        for path in (f"/s/{token}", "/"):
            answer = site.get(site.share + path, method=method)
            assert answer.status == 404, (method, path, answer.status)
            _headers(answer.headers)
    page = site.get(f"{site.share}/s/{token}")
    _headers(page.headers)
    assert page.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert "Set-Cookie" not in page.headers
    assert not re.findall(r'(?:src|href)="https?://(?!shop\.example)', page.text)


def _headers(headers: object) -> None:
    get = headers.get  # type: ignore[attr-defined]
    assert get("Content-Security-Policy", "").startswith(_POLICY), get("Content-Security-Policy")
    assert get("Referrer-Policy") == "no-referrer"
    assert get("X-Content-Type-Options") == "nosniff"
