"""Pictures are rendered one at a time, rate-limited for each identity, and cached."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from groupbuy.groups.v1.links_pb2 import QR_FORMAT_PNG, QR_FORMAT_SVG, QrFormat

from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError
from services.groups.api import pictures
from services.groups.api.pictures import RATE, SHARE, Pictures


class Drawing:
    """Replaces the rendering, and can be blocked."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.at_once = self.most_at_once = 0
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, url: str, form: QrFormat.ValueType) -> bytes:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.go_on.wait(30)
        self.drawn.append(url)
        self.at_once -= 1
        return url.encode()


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Drawing]:
    made = Drawing()
    monkeypatch.setattr(pictures, "picture", made)
    yield made
    made.go_on.set()


async def test_a_picture_is_rendered_once(drawing: Drawing) -> None:
    found = Pictures()
    for _ in range(3):
        assert await found.render("a", QR_FORMAT_PNG) == b"a"
    await found.render("a", QR_FORMAT_SVG)
    assert drawing.drawn == ["a", "a"]


async def test_pictures_are_rendered_one_at_a_time_and_few_wait(drawing: Drawing) -> None:
    IDENTITY.set("shop")
    found = Pictures()
    drawing.go_on.clear()
    tasks = [asyncio.create_task(found.render(f"{number}", QR_FORMAT_PNG)) for number in range(SHARE + 1)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    errors = [one.exception() for one in done]
    assert [one.reason_name for one in errors if isinstance(one, ApiError)] == ["OVERLOADED"]
    IDENTITY.set("other")
    other = asyncio.create_task(found.render("other", QR_FORMAT_PNG))
    await asyncio.wait([other], timeout=0)
    assert not other.done()
    drawing.go_on.set()
    assert await other == b"other"
    await asyncio.gather(*tasks, return_exceptions=True)
    assert drawing.most_at_once == 1


async def test_pictures_are_rate_limited_for_each_identity(drawing: Drawing) -> None:
    IDENTITY.set("shop")
    found = Pictures()
    with pytest.raises(ApiError) as caught:
        for number in range(RATE.burst * 2):
            await found.render(f"{number}", QR_FORMAT_PNG)
    assert caught.value.reason_name == "RATE_LIMITED"
    assert len(drawing.drawn) > RATE.burst
    await found.render("0", QR_FORMAT_PNG)
    IDENTITY.set("other")
    await found.render("another", QR_FORMAT_PNG)
