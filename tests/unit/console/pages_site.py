"""The listener for operators of a test, with services that keep the requests."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from aiohttp import ClientSession
from aiohttp.test_utils import BaseTestServer, TestServer
from groupbuy.groups.v1.groups_pb2 import CancelGroupRequest, GetGroupRequest, Group, GroupState, MemberState
from groupbuy.groups.v1.groups_pb2_grpc import GroupServiceServicer, add_GroupServiceServicer_to_server
from groupbuy.payments.v1 import operator_pb2 as o
from groupbuy.payments.v1.decisions_pb2 import OPERATION_REFUND
from groupbuy.payments.v1.operator_pb2_grpc import OperatorServiceServicer, add_OperatorServiceServicer_to_server

from console.live.board import Board
from console.live.services import Services
from console.live.stock import Stocks
from console.pages.application import OperatorPages
from console.settings import ConsoleSettings
from console.web.passwords import Operators
from console.web.streams import Places
from ops.watch.view import View
from tests.unit.console.support import KEY, group


def basic(name: str, password: str) -> dict[str, str]:
    """The header of a name and a password."""
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


PAYMENT = f"groups/{KEY.format(1)}/orders/{KEY.format(2)}/payment"
GROUP = f"groups/{KEY.format(1)}"
CUSTOMER = "secret-customer-9"
FORM = {"name": PAYMENT, "operation": "3", "attempt": "1", "reason": "the bank confirmed it"}


class Operator(OperatorServiceServicer):
    """A service that keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.refusal = ""

    async def RetryCall(self, request: o.RetryCallRequest, context: Any) -> o.Repair:
        return self._repair(request)

    async def ApproveAdjustment(self, request: o.ApproveAdjustmentRequest, context: Any) -> o.Repair:
        if self.refusal:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, self.refusal)
        return self._repair(request)

    def _repair(self, request: Any) -> o.Repair:
        self.requests.append(request)
        found = o.Repair(request_id=request.request_id, refusal=self.refusal)
        found.payment.name, found.payment.version = request.name, 7
        if request.validate_only and not self.refusal:
            call = found.preview.add().refund_requested.call
            call.operation, call.order, call.customer, call.currency = OPERATION_REFUND, KEY.format(2), CUSTOMER, "CNY"
        return found

    async def FeedOutcome(self, request: o.FeedOutcomeRequest, context: Any) -> o.FeedOutcomeResponse:
        self.requests.append(request)
        if not request.validate_only:
            return o.FeedOutcomeResponse(partition=3, offset=41)
        found = o.FeedOutcomeResponse(offset=-1)
        found.preview.add().captured.amount_minor = request.outcome.captured.amount_minor
        return found

    async def ListIssues(self, request: o.ListIssuesRequest, context: Any) -> o.ListIssuesResponse:
        issue = o.Issue(
            payment=PAYMENT, kind=o.ISSUE_KIND_OWED, amount_minor=8_900, currency="CNY", reason="declined", alarm=True
        )
        return o.ListIssuesResponse(issues=[issue])


class Groups(GroupServiceServicer):
    """A service with one group, which can be cancelled."""

    def __init__(self) -> None:
        self.requests: list[CancelGroupRequest] = []
        self.found = group(2)
        self.found.members[0].state = MemberState.MEMBER_STATE_CONFIRMED
        self.found.members[1].state = MemberState.MEMBER_STATE_RESERVED
        late = self.found.members.add(order="groups/x/orders/2", customer=CUSTOMER)
        late.state = MemberState.MEMBER_STATE_WAITLISTED

    async def GetGroup(self, request: GetGroupRequest, context: Any) -> Group:
        return self.found

    async def CancelGroup(self, request: CancelGroupRequest, context: Any) -> Group:
        self.requests.append(request)
        self.found.state = GroupState.GROUP_STATE_CANCELLED
        return self.found


class Site:
    """The listener for operators of a test."""

    def __init__(
        self, server: BaseTestServer, session: ClientSession, board: Board, service: Operator, groups: Groups
    ) -> None:
        self.server, self.session, self.board, self.service, self.groups = server, session, board, service, groups

    async def get(self, path: str, **options: Any) -> tuple[int, str, Any]:
        async with self.session.get(self.server.make_url(path), allow_redirects=False, **options) as answer:
            return answer.status, await answer.text(), answer.headers

    async def post(self, path: str, form: dict[str, str], **headers: str) -> tuple[int, str]:
        own = {"Sec-Fetch-Site": "same-origin"} | headers
        async with self.session.post(self.server.make_url(path), data=form, headers=own) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def running(operators: Operators | None, streams: int = 5, user: str = "") -> AsyncIterator[Site]:
    service, groups, grpc_server = Operator(), Groups(), grpc.aio.server()  # type: ignore[abstract]
    add_OperatorServiceServicer_to_server(service, grpc_server)
    add_GroupServiceServicer_to_server(groups, grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    settings = ConsoleSettings(insecure=True, payments=f"127.0.0.1:{port}", groups=f"127.0.0.1:{port}")
    board, services = Board(View(1)), Services(settings, None)
    pages = OperatorPages(settings, board, services, Stocks(services), Places(streams), operators)
    headers = basic(user, "right") if user else {}
    async with TestServer(pages.application()) as server, ClientSession(headers=headers) as session:
        yield Site(server, session, board, service, groups)
        await pages.close()
    await services.close()
    await grpc_server.stop(0)
