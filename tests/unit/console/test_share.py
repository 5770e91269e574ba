"""The share page over HTTP, with a groups service that answers from a table."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import BaseTestServer, TestServer
from groupbuy.groups.v1.groups_pb2 import Group, GroupState
from groupbuy.groups.v1.links_pb2 import ResolveShareLinkResponse
from PIL import Image

from chassis.admission.rate_limit import RateLimit
from chassis.identity.policy import FILE, read
from console.settings import ConsoleSettings
from console.share import application
from console.share.application import SharePages
from console.share.links import LinkFailed, Wrong
from console.share.offer import join_address, offer_of
from console.share.picture import Pen, picture
from console.share.texts import Texts, language_of, names
from console.web.streams import Places
from tests.unit.console.support import group


class Links:
    """What links lead to."""

    def __init__(self) -> None:
        self.take: Callable[[Group], None] | None = None
        self.following = asyncio.Event()

    async def resolve(self, token: str) -> ResolveShareLinkResponse:
        match token:
            case "open":
                return ResolveShareLinkResponse(group=group(2), joinable=True)
            case "closed":
                closed = group(5, GroupState.GROUP_STATE_COMPLETED)
                found = ResolveShareLinkResponse(group=closed)
                found.open_groups.add(group=group(1), share_token="other")
                return found
            case "campaign":
                return ResolveShareLinkResponse(campaign="campaigns/mug-1")
        raise LinkFailed(
            {"expired": Wrong.EXPIRED, "tampered": Wrong.TAMPERED, "away": Wrong.AWAY}.get(token, Wrong.UNKNOWN)
        )

    async def follow(self, name: str, take: Callable[[Group], None], away: Callable[[], None]) -> None:
        self.take = take
        self.following.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing is open."""


class Site:
    """The public listener of a test."""

    def __init__(self, server: BaseTestServer, session: ClientSession, links: Links) -> None:
        self.server, self.session, self.links = server, session, links

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, Any]:
        async with self.session.request(method, self.server.make_url(path), headers=headers) as answer:
            return answer.status, await answer.text(), answer.headers


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    links = Links()
    settings = ConsoleSettings(insecure=True, public_url="https://go.example")
    pages = SharePages(settings, links, Places(10), lambda: "127.0.0.1:1")  # type: ignore[arg-type]
    async with TestServer(pages.application()) as server, ClientSession() as session:
        yield Site(server, session, links)
        await pages.close()


async def test_an_open_group_can_be_joined_and_names_nobody(site: Site) -> None:
    status, text, headers = await site.get("/s/open")
    assert status == 200
    assert "¥89.00" in text and "more and everybody pays" in text and "¥79.00" in text
    assert 'href="https://shop.example/join?group=groups%2F5d7c9f3e' in text and "link=open" in text
    assert text.count('<i class="paid">') == 2 and text.count('<i class="free">') == 3
    assert 'content="https://go.example/s/open/picture.png?lang=en"' in text
    assert "secret-customer" not in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "Set-Cookie" not in headers


async def test_the_policy_has_the_hashes_of_what_the_page_contains(site: Site) -> None:
    import base64
    from hashlib import sha256

    _, text, headers = await site.get("/s/open")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in headers["Content-Security-Policy"]
    assert " style=" not in text and " onclick" not in text


async def test_a_closed_group_leads_to_an_open_one(site: Site) -> None:
    status, text, _ = await site.get("/s/closed")
    assert status == 200
    assert "This group is complete" in text and 'href="/s/other"' in text
    assert 'class="join"' not in text and "<script>" not in text


async def test_a_campaign_without_groups_has_a_page(site: Site) -> None:
    status, text, _ = await site.get("/s/campaign")
    assert status == 200 and "No other group is open" in text


@pytest.mark.parametrize(
    ("token", "status", "title"),
    [
        ("expired", 410, "This link has expired"),
        ("tampered", 404, "This link was changed"),
        ("nonsense", 404, "This link is not known"),
        ("away", 503, "Just a moment"),
    ],
)
async def test_each_wrong_link_has_its_page(site: Site, token: str, status: int, title: str) -> None:
    found, text, _ = await site.get(f"/s/{token}")
    assert found == status and title in text


async def test_chinese_by_accept_language(site: Site) -> None:
    _, text, headers = await site.get("/s/open", **{"Accept-Language": "fr;q=0.9, zh-CN;q=0.8, en;q=0.7"})
    assert '<html lang="zh-Hans"' in text and "立即参团" in text and "再来" in text
    assert headers["Vary"] == "Accept-Language"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/s"), ("GET", "/s/"), ("GET", "/s/open/"), ("GET", "/s/open/x"), ("POST", "/s/open"),
        ("DELETE", "/s/open"), ("OPTIONS", "/"), ("GET", "/groups/1"), ("GET", "/metrics"), ("GET", "/s/%3Cb%3E"),
        ("GET", "/s/" + "x" * 501), ("HEAD", "/s/open/events"), ("GET", "/static/console.js"),
    ],
)  # fmt: skip
async def test_everything_else_is_not_found(site: Site, method: str, path: str) -> None:
    status, text, headers = await site.get(path, method)
    assert status == 404
    assert text in {"not found\n", ""}
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_a_change_of_the_group_reaches_the_open_page(site: Site) -> None:
    async with site.session.get(site.server.make_url("/s/open/events")) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        await asyncio.wait_for(site.links.following.wait(), 5)
        assert site.links.take is not None
        site.links.take(group(5))
        text = ""
        async with asyncio.timeout(5):
            while "¥79.00" not in text:
                text += (await answer.content.readany()).decode()
    assert "secret-customer" not in text


async def test_an_address_has_a_rate_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "PER_ADDRESS", RateLimit(calls_per_second=0.01, burst=3))
    statuses = [(await site.get("/s/open"))[0] for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


async def test_the_picture_is_small_and_has_the_size_of_previews(site: Site) -> None:
    async with site.session.get(site.server.make_url("/s/open/picture.png")) as answer:
        body = await answer.read()
        assert answer.content_type == "image/png"
    with Image.open(io.BytesIO(body)) as image:
        assert image.size == (1200, 630)
    assert len(body) < 60_000


def test_the_picture_changes_with_the_group_and_survives_any_text() -> None:
    pen = Pen(None)
    two, five = offer_of(group(2)), offer_of(group(5))
    assert two is not None and five is not None
    assert picture(two, Texts("en"), pen) != picture(five, Texts("en"), pen)
    odd = two._replace(
        product="杯子 \U0001f375 " * 30, currency="XOF", capacity=2_000, ladder=two.ladder._replace(seats=[])
    )
    for language in names():
        assert picture(odd, Texts(language), pen).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,zh;q=0.5", "en"),
        ("de", "en"),
        ("zh;q=x, en", "en"),
        (",;,", "en"),
    ],
)
def test_the_language_of_a_header(header: str, language: str) -> None:
    assert language_of(header) == language


def test_both_languages_have_all_texts() -> None:
    assert len(set(names().values())) == 1


def test_the_address_in_the_shop_is_escaped() -> None:
    offer = offer_of(group(1))
    assert offer is not None
    found = join_address("https://s.example/?g={group}&l={share_token}&x={other}", offer, 'a"&b')
    assert found.endswith("&l=a%22%26b&x={other}")
    assert "groups%2F" in found


def test_the_share_identity_may_make_three_calls() -> None:
    found = {
        method.rpartition("/")[2]
        for service in ("orders", "groups", "payments", "provider")
        for method, callers in read(FILE, service).allowed.items()
        if "share" in callers and "grpc.health" not in method
    }
    assert found == {"ResolveShareLink", "GetGroup", "WatchGroup"}
