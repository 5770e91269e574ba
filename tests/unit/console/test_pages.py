"""The operators' pages over HTTP: headers, streams, authentication, and repairs with a preview."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import BaseTestServer, TestServer
from groupbuy.payments.v1 import operator_pb2 as o
from groupbuy.payments.v1.operator_pb2_grpc import OperatorServiceServicer, add_OperatorServiceServicer_to_server

from console.app import Unusable, _check_listener
from console.live.board import Board
from console.pages.actions import BadForm, actions, request_of
from console.pages.alerts import alerts
from console.pages.application import OperatorPages
from console.pages.services import Services
from console.settings import ConsoleSettings
from console.web.passwords import BadOperators, Operators, line
from console.web.streams import Places
from ops.watch.folding.summary import Money
from ops.watch.folding.totals import Totals
from ops.watch.lag import Lags, PartitionLag
from ops.watch.view import View
from ops.watch.worker import Progress
from tests.unit.console.support import KEY, card, report


def basic(name: str, password: str) -> dict[str, str]:
    """The header of a name and a password."""
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


PAYMENT = f"groups/{KEY.format(1)}/orders/{KEY.format(2)}/payment"
FORM = {"name": PAYMENT, "operation": "3", "attempt": "1", "reason": "the bank confirmed it"}


class Operator(OperatorServiceServicer):
    """A service that keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[o.RetryCallRequest] = []
        self.refusal = ""

    async def RetryCall(self, request: o.RetryCallRequest, context: Any) -> o.Repair:
        self.requests.append(request)
        found = o.Repair(request_id=request.request_id, refusal=self.refusal)
        found.payment.name, found.payment.version = request.name, 7
        return found

    async def ListIssues(self, request: o.ListIssuesRequest, context: Any) -> o.ListIssuesResponse:
        issue = o.Issue(
            payment=PAYMENT, kind=o.ISSUE_KIND_OWED, amount_minor=8_900, currency="CNY", reason="declined", alarm=True
        )
        return o.ListIssuesResponse(issues=[issue])


class Site:
    """The listener for operators of a test."""

    def __init__(self, server: BaseTestServer, session: ClientSession, board: Board, service: Operator) -> None:
        self.server, self.session, self.board, self.service = server, session, board, service

    async def get(self, path: str, **options: Any) -> tuple[int, str, Any]:
        async with self.session.get(self.server.make_url(path), allow_redirects=False, **options) as answer:
            return answer.status, await answer.text(), answer.headers

    async def post(self, path: str, form: dict[str, str], **headers: str) -> tuple[int, str]:
        own = {"Sec-Fetch-Site": "same-origin"} | headers
        async with self.session.post(self.server.make_url(path), data=form, headers=own) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def running(operators: Operators | None, streams: int = 5, user: str = "") -> AsyncIterator[Site]:
    service, grpc_server = Operator(), grpc.aio.server()  # type: ignore[abstract]
    add_OperatorServiceServicer_to_server(service, grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    settings = ConsoleSettings(insecure=True, payments=f"127.0.0.1:{port}")
    board, services = Board(View(1)), Services(settings, None)
    pages = OperatorPages(settings, board, services, Places(streams), operators)
    headers = basic(user, "right") if user else {}
    async with TestServer(pages.application()) as server, ClientSession(headers=headers) as session:
        yield Site(server, session, board, service)
        await pages.close()
    await services.close()
    await grpc_server.stop(0)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running(None) as made:
        yield made


@pytest.fixture
def operators(tmp_path: Path) -> Operators:
    file = tmp_path / "operators"
    file.write_text(f"# people\n{line('ann', 'right')}\n{line('bob', 'other')}\n")
    return Operators(file)


@pytest.fixture
async def repairs(operators: Operators) -> AsyncIterator[Site]:
    async with running(operators, user="ann") as made:
        yield made


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


async def test_a_repair_is_previewed_and_then_done(repairs: Site) -> None:
    _, text, _ = await repairs.get("/repair")
    assert "¥89.00 declined" in text and PAYMENT in text
    status, text = await repairs.post("/repair/RetryCall", FORM)
    assert status == 200 and "Nothing was appended" in text
    (preview,) = repairs.service.requests
    assert preview.validate_only and preview.operation == 3 and preview.attempt == 1
    assert preview.reason == "the bank confirmed it (ann)"
    (token,) = re.findall(r'name="token" value="([^"]+)"', text)
    status, text = await repairs.post("/repair/RetryCall", {"token": token})
    assert status == 200 and "The log has it" in text
    done = repairs.service.requests[1]
    assert not done.validate_only
    assert (done.request_id, done.reason, done.expected_version) == (preview.request_id, preview.reason, 7)


async def test_only_a_preview_of_ones_own_can_be_confirmed(repairs: Site) -> None:
    _, text = await repairs.post("/repair/RetryCall", FORM)
    (token,) = re.findall(r'name="token" value="([^"]+)"', text)
    until, request, mac = token.split(".")
    for wrong in (
        "",
        "x",
        f"{int(until) + 1}.{request}.{mac}",
        f"{until}.{request}.{mac[:-1]}{'1' if mac[-1] == '0' else '0'}",
        f"{until}.AAAA.{mac}",
    ):
        status, text = await repairs.post("/repair/RetryCall", {"token": wrong})
        assert status == 422 and "not from a preview of yours" in text
    assert (await repairs.post("/repair/GiveUpCall", {"token": token}))[0] == 422
    bob = basic("bob", "other")
    assert (await repairs.post("/repair/RetryCall", {"token": token}, **bob))[0] == 422
    assert len(repairs.service.requests) == 1


async def test_a_form_of_another_site_is_refused(repairs: Site) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-site"}):
        assert (await repairs.post("/repair/RetryCall", FORM, **headers))[0] == 403
    assert repairs.service.requests == []


@pytest.mark.parametrize("change", [{"reason": ""}, {"reason": "x" * 401}, {"operation": "x"}, {"attempt": "1.5"}])
async def test_a_form_with_an_error_calls_nothing_and_is_kept(repairs: Site, change: dict[str, str]) -> None:
    status, text = await repairs.post("/repair/RetryCall", FORM | change)
    assert status == 422 and 'role="alert"' in text and PAYMENT in text
    assert repairs.service.requests == []


async def test_what_the_rules_refuse_can_not_be_confirmed(repairs: Site) -> None:
    repairs.service.refusal = "nothing is pending"
    _, text = await repairs.post("/repair/RetryCall", FORM)
    assert "The rules refuse it: nothing is pending" in text and "token" not in text


def test_every_action_has_a_form_that_its_request_takes() -> None:
    found = actions()
    assert {"RetryCall", "GiveUpCall", "ReleaseMember", "MarkReturnedOutside", "KeepSuspense"} <= found.keys()
    assert "ListIssues" not in found
    for action in found.values():
        values = {"choice": "1", "number": "5", "text": "x", "check": "on"}
        form = {"name": PAYMENT} | {field.name: values[field.kind] for field in action.fields}
        request = request_of(action, form, "why")
        assert {field.name for field, _ in request.ListFields()} >= {field.name for field in action.fields}
    with pytest.raises(BadForm):
        request_of(found["RetryCall"], {"name": PAYMENT, "attempt": "99999999999"}, "why")


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
