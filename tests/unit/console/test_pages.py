"""The operators' pages over HTTP: headers, streams, authentication, and repairs with a preview."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.app import Unusable, _check_listener
from console.pages.alerts import alerts
from console.settings import ConsoleSettings
from console.web.passwords import BadOperators, Operators, line
from ops.watch.folding.summary import Money
from ops.watch.folding.totals import Totals
from ops.watch.lag import Lags, PartitionLag
from ops.watch.view import View
from ops.watch.worker import Progress
from tests.unit.console.pages_site import FORM, Site, basic, running
from tests.unit.console.support import KEY, card, report


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running(None) as made:
        yield made


@pytest.fixture
def operators(tmp_path: Path) -> Operators:
    file = tmp_path / "operators"
    file.write_text(f"# people\n{line('ann', 'right')}\n{line('bob', 'other')}\n")
    return Operators(file)


async def test_every_page_has_the_headers_and_no_cookie(site: Site) -> None:
    for path in ("/", "/books", "/health", "/repair", "/nothing", "/groups/x", "/find?q=nothing"):
        _, text, headers = await site.get(path)
        assert headers["Content-Security-Policy"].startswith("default-src 'none'"), path
        assert "Set-Cookie" not in headers
        assert not re.search(r'(src|href)="https?://(?!github\.com/groupbuy/)', text)
        assert " style=" not in text and "<script>" not in text


async def test_the_assets_of_a_page_exist(site: Site) -> None:
    _, text, _ = await site.get("/")
    paths = re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
    assert len(paths) == 3
    for path in paths:
        status, _, headers = await site.get(path)
        assert status == 200 and "immutable" in headers["Cache-Control"]


async def test_a_stream_sends_what_the_page_lacks(site: Site) -> None:
    site.board.take(report(card(1)))
    _, text, _ = await site.get("/")
    (tag,) = re.findall(r'data-tag="([^"]+)"', text)
    async with site.session.get(site.server.make_url(f"/events?after={tag}")) as answer:
        site.board.take(report(card(2)))
        found = ""
        async with asyncio.timeout(5):
            while KEY.format(2) not in found:
                found += (await answer.content.readany()).decode()
    assert f"/groups/{KEY.format(1)}" not in found


async def test_streams_beyond_the_limit_are_refused() -> None:
    async with running(None, streams=1) as site, site.session.get(site.server.make_url("/events")) as first:
        assert first.status == 200
        status, _, headers = await site.get("/events")
        assert status == 503 and headers["Retry-After"]


async def test_names_are_found(site: Site) -> None:
    site.board.take(report(card(1)))
    order = f"groups/{KEY.format(1)}/orders/{KEY.format(2)}"
    for wanted, path in (
        (KEY.format(1), f"/groups/{KEY.format(1)}"),
        (order, f"/{order}"),
        (f"{order}/payment", f"/{order}"),
        ("5d7c9f3e", f"/groups/{KEY.format(1)}"),
    ):
        status, _, headers = await site.get("/find", params={"q": wanted})
        assert (status, headers["Location"]) == (303, path)
    assert (await site.get("/find", params={"q": "xyz"}))[0] == 404


async def test_without_operators_nothing_can_be_repaired(site: Site) -> None:
    assert (await site.get("/repair"))[0] == 403
    assert (await site.get("/repair/RetryCall"))[0] == 403
    assert (await site.post("/repair/RetryCall", FORM))[0] == 403
    assert site.service.requests == []


async def test_with_operators_every_page_needs_a_password(operators: Operators) -> None:
    async with running(operators) as site:
        for path in ("/", "/events", "/books", "/repair", "/static/x", "/groups/x"):
            status, _, headers = await site.get(path)
            assert status == 401 and headers["WWW-Authenticate"].startswith("Basic")
        wrong = [basic("ann", "wrong"), basic("eve", "right"), basic("ann", "other"), basic("", "")]
        for auth in wrong:
            assert (await site.get("/", headers=auth))[0] == 401
        assert (await site.get("/", headers=basic("ann", "right")))[0] == 200
        assert (await site.get("/", headers={"Authorization": "Basic %%%"}))[0] == 401


def test_a_file_of_operators_that_is_not_valid(tmp_path: Path) -> None:
    file = tmp_path / "operators"
    for text in ("", "# nobody\n", "ann:secret\n", "ann:00:zz\n"):
        file.write_text(text)
        with pytest.raises(BadOperators):
            Operators(file)


@pytest.mark.parametrize(
    ("listen", "allowed"), [("127.0.0.1:1", True), ("[::1]:1", True), ("0.0.0.0:1", False), ("host:1", False)]
)
def test_only_this_machine_sees_pages_without_passwords(listen: str, allowed: bool) -> None:
    settings = ConsoleSettings(insecure=True, listen=listen)
    if allowed:
        _check_listener(settings)
    else:
        with pytest.raises(Unusable, match="GROUPBUY_CONSOLE_OPERATORS_FILE"):
            _check_listener(settings)


def test_alerts_name_their_runbooks() -> None:
    view = View(1)
    totals = Totals(
        money={"CNY": Money(suspense=100, owed=50)}, dead_letters=2, by_invariant={3: 1}, first={3: "twice"}
    )
    view.take(Progress(0, 1, 0, 0, totals))
    row = PartitionLag("groupbuy.groups.decider", "groups.inbox.v1", 0, 1, 2, 1, 31.0, "")
    view.lags = Lags([row], {row.group: 1})
    found = list(alerts(view, {"groups": False, "payments": True}))
    runbooks = Path(__file__).parents[3] / "docs" / "runbooks"
    assert {one.runbook for one in found} == {
        "GroupbuyServiceGone", "GroupbuyConsumerBehind", "GroupbuyBooksDiffer", "GroupbuyDeadLetters",
        "GroupbuySuspense", "GroupbuyRefundsOwed",
    }  # fmt: skip
    for one in found:
        assert (runbooks / f"{one.runbook}.md").is_file()
