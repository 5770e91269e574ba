"""How the pages look: no sideways scroll, no violation of accessibility rules, pictures, and nobody's id."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Browser, expect

from tests.console.browser import SCHEMES, WIDTHS, axe, page_of, sideways
from tests.console.shop import CUSTOMER
from tests.console.site import Answer, Site

PICTURES = Path(__file__).parents[2] / "docs" / "console"
MAX_PICTURE = 60_000


class Looks(NamedTuple):
    """What was looked at, and what was wrong."""

    pages: int
    axe: list[str]
    sideways: list[str]
    pictures: int


def look(browser: Browser, urls: Mapping[str, str], *, write: bool) -> Looks:
    """Opens each page at both widths in both colour schemes. With `write`, stores pictures of the light one."""
    wrong: list[str] = []
    wide: list[str] = []
    drawn = 0
    for name, url in urls.items():
        for width, size in WIDTHS.items():
            for scheme in SCHEMES:
                with page_of(browser, size, scheme=scheme) as page:
                    page.goto(url)
                    if page.locator("#status").count() and page.locator("body").get_attribute("data-events"):
                        expect(page.locator("body")).to_have_attribute("data-state", "live")
                    if sideways(page):
                        wide.append(f"{name} {width} {scheme}")
                    wrong += [f"{name} {width} {scheme}: {one}" for one in axe(page)]
                    if write and scheme == "light":
                        store(PICTURES / f"{name}-{width}.webp", page.screenshot())
                        drawn += 1
    return Looks(len(urls), wrong, wide, drawn)


def store(path: Path, png: bytes) -> None:
    """Writes a picture as WebP of at most MAX_PICTURE bytes. Raises AssertionError if it does not fit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(png)) as image:
        picture = image.convert("RGB")
    for quality in (90, 80, 65, 50):
        out = io.BytesIO()
        picture.save(out, "WEBP", quality=quality, method=6)
        if out.tell() <= MAX_PICTURE:
            path.write_bytes(out.getvalue())
            return
    raise AssertionError(f"{path.name} has more than {MAX_PICTURE} bytes")


def nobody(site: Site, urls: Mapping[str, str]) -> int:
    """No response has the id of a customer. Returns the number of responses."""
    answers: list[tuple[str, Answer]] = [(url, site.get(url)) for url in urls.values()]
    for url, answer in answers:
        assert CUSTOMER.encode() not in answer.body, f"{url} has the id of a customer"
    return len(answers)
