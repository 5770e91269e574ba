"""Debian's Chromium under Playwright, and the checks of a page that need one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

PHONE, DESK = (390, 844), (1_280, 800)
WIDTHS = {"phone": PHONE, "desk": DESK}
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_INSTALL_S = 300
#: A page on a busy machine.
WAIT_MS = 30_000


class NoBrowser(Exception):
    """There is no browser. The message is a sentence."""


def find() -> str:
    """The path of Chromium; installs it where that is possible. Raises NoBrowser."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install = ("install", "-y", "-q", "--no-install-recommends", "chromium")
        # The lists of packages may be missing.
        for words in (install, ("update", "-q"), install):
            _apt_get(words)
            if found := shutil.which(_NAMES[0]):
                return found
    raise NoBrowser("no Chromium on this machine, and it can't be installed: apt-get install chromium")


def _apt_get(words: Sequence[str]) -> None:
    try:
        subprocess.run(("apt-get", *words), check=False, capture_output=True, timeout=_INSTALL_S)
    except subprocess.TimeoutExpired:
        raise NoBrowser(f"apt-get {words[0]} did not end within {_INSTALL_S} s") from None


@contextmanager
def running(path: str) -> Iterator[Browser]:
    """A headless browser. Raises NoBrowser if it does not start."""
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
            )
        except Error as error:
            raise NoBrowser(f"{path} does not start: {error.message.splitlines()[0]}") from None
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(
    browser: Browser,
    size: tuple[int, int],
    *,
    script: bool = True,
    language: str = "en-GB",
    login: tuple[str, str] | None = None,
) -> Iterator[Page]:
    """A page of a fresh context, without motion. `login` is a name and a password."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        http_credentials={"username": login[0], "password": login[1]} if login else None,
        java_script_enabled=script,
        locale=language,
        reduced_motion="reduce",
        device_scale_factor=1,
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    try:
        yield page
    finally:
        context.close()


def sideways(page: Page) -> bool:
    """Whether the page scrolls sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def axe(page: Page) -> list[str]:
    """The violations of accessibility rules: rule and first element."""
    found: dict[str, Any] = Axe().run(page).response
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found["violations"]]
