"""A browser with any version gets exactly what it lacks, and a busy page sends few frames."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from console.web.channel import MAX_INTERVAL_S, Channel
from tests.waiting import moment


class Page(Channel):
    """A page with one part and one list."""

    def __init__(self) -> None:
        super().__init__()
        self.text = "-"
        self.rows: list[tuple[str, str]] = []

    def refresh(self) -> None:
        self.set_part("text", self.text)
        self.set_list("rows", self.rows)


class Viewer:
    """What the script of a page does with frames."""

    def __init__(self) -> None:
        self.tag = ""
        self.parts: dict[str, str] = {}
        self.rows: list[tuple[str, str]] = []

    def take(self, event: bytes) -> None:
        head, data, *_ = event.decode().split("\n")
        self.tag = head.removeprefix("id: ")
        frame: dict[str, Any] = json.loads(data.removeprefix("data: "))
        self.parts |= frame["parts"]
        change = frame["lists"].get("rows")
        if change is None:
            return
        known = dict(self.rows) | change["items"]
        keys = [key for key, _ in self.rows]
        if "keys" in change:
            keys = keys[: change["keep"]] + change["keys"]
        self.rows = [(key, known[key]) for key in keys]


def test_viewers_that_skip_versions_see_the_same_as_others() -> None:
    rng = random.Random(7)
    page = Page()
    viewers = [Viewer() for _ in range(6)]
    for step in range(400):
        page.text = rng.choice(["a", "b", page.text])
        keys = [key for key, _ in page.rows if rng.random() > 0.2]
        fresh = [f"k{rng.randint(0, 12)}" for _ in range(rng.randint(0, 3))]
        keys = list(dict.fromkeys([*keys, *fresh]))
        if rng.random() < 0.2:
            rng.shuffle(keys)
        page.rows = [(key, f"{key}-{rng.randint(0, 3)}") for key in keys]
        page.update()
        for number, viewer in enumerate(viewers):
            if step % (number * 5 + 1) == 0:
                viewer.take(page.frame(page.version_of(viewer.tag)))
                assert viewer.parts["text"] == page.text
                assert viewer.rows == page.rows, (step, number)


def test_an_unchanged_page_has_no_new_version() -> None:
    page = Page()
    page.update()
    version = page.version
    page.update()
    assert page.version == version


@pytest.mark.parametrize(
    "tag", ["", "x", "deadbeef.1", "1", "deadbeef.", "deadbeef.-1", "deadbeef.9999999999999999999999"]
)
def test_a_foreign_tag_gets_everything(tag: str) -> None:
    page = Page()
    page.epoch = "feedface"
    page.rows = [("a", "A")]
    page.update()
    viewer = Viewer()
    viewer.take(page.frame(page.version_of(tag)))
    assert viewer.rows == [("a", "A")]


def test_a_version_from_the_future_is_the_present_one() -> None:
    page = Page()
    page.update()
    assert page.version_of(f"{page.epoch}.999") == page.version


async def test_a_thousand_changes_in_a_second_make_at_most_six_frames() -> None:
    page = Page()
    page.viewers = 1
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number in range(1_000):
        page.text = str(number)
        page.touch(1)
        await asyncio.sleep(max(0.0, began_s + (number + 1) / 1_000 - loop.time()))
    await moment(MAX_INTERVAL_S + 0.1)
    assert page.part("text") == "999"
    assert 2 <= page.frames <= 6


async def test_the_first_change_after_a_quiet_time_comes_at_once() -> None:
    page = Page()
    page.viewers = 1
    page.text = "now"
    page.touch(1)
    async with asyncio.timeout(0.1):
        await page.wait_newer(0)
    assert page.part("text") == "now"


async def test_a_page_that_nobody_looks_at_is_not_drawn() -> None:
    page = Page()
    page.touch(1)
    await moment(0.05)
    assert page.version == 0
