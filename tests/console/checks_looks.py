"""How the pages look: no sideways scroll, no violation of accessibility rules, pictures, and nobody's id."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.console.browser import PHONE, WIDTHS, axe, page_of, sideways
from tests.console.shop import CUSTOMER
from tests.console.site import Answer, Site

PICTURES = Path(__file__).parents[2] / "docs" / "console"
MAX_PICTURE = 60_000
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


class View(NamedTuple):
    """A page that people see."""

    url: str
    login: tuple[str, str] | None = None
    language: str = "en-GB"
    #: Acts on the page before it is looked at.
    act: Callable[[Page], object] | None = None
    #: Whether docs/console has a picture of it.
    picture: bool = True


class Looks(NamedTuple):
    """The number of pages, and what was wrong with them."""

    pages: int
    axe: list[str]
    sideways: list[str]


def look(browser: Browser, views: Mapping[str, View], *, write: bool, quick: bool) -> Looks:
    """Opens each page and looks at it at both widths in both colour schemes. With `write`, stores pictures.

    With `quick` the rules of accessibility are applied at the width of a phone alone: they differ little by width.
    """
    wrong: list[str] = []
    wide: list[str] = []
    for name, view in views.items():
        with page_of(browser, PHONE, language=view.language, login=view.login) as page:
            _open(page, view)
            for width, size in WIDTHS.items():
                page.set_viewport_size({"width": size[0], "height": size[1]})
                if sideways(page):
                    wide.append(f"{name} {width}")
                if write and view.picture:
                    store(PICTURES / f"{name}-{width}.webp", page.screenshot())
                for scheme in () if quick and size != PHONE else SCHEMES:
                    page.emulate_media(color_scheme=scheme)
                    wrong += [f"{name} {width} {scheme}: {one}" for one in axe(page)]
                page.emulate_media(color_scheme="light")
    return Looks(len(views), wrong, wide)


def _open(page: Page, view: View) -> None:
    page.goto(view.url)
    if view.act is not None:
        view.act(page)
    if page.locator("#status").count() and page.locator("body").get_attribute("data-events"):
        expect(page.locator("body")).to_have_attribute("data-state", "live")


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


def nobody(site: Site, urls: Iterable[str]) -> int:
    """No response has the id of a customer. Returns the number of responses."""
    answers: list[tuple[str, Answer]] = [(url, site.get(url)) for url in urls]
    for url, answer in answers:
        assert CUSTOMER.encode() not in answer.body, f"{url} has the id of a customer"
    return len(answers)
