"""Repair: the operator actions, each with a preview of what it would append, and a reason.

A preview calls the service with `validate_only`, or reads the group that would be cancelled. Only its own form can then
do the action: it has a signature over the request, the operator and the time, and the version that the operator saw.
"""

from __future__ import annotations

import base64
import hmac
import logging
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.groups.v1.groups_pb2 import GetGroupRequest, Group
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.operator_pb2 import ListIssuesRequest, ListIssuesResponse

from console.live.services import CALL_S, Services
from console.repair.actions import CANCEL, GROUPS, OPERATORS, Action, BadForm, actions, request_of, response_class, rows
from console.repair.cancelling import events_of, refusal_of
from ops.log.rendering.anonymous import nameless
from ops.log.rendering.describe import event_line

log = logging.getLogger(__name__)

#: Seconds for which a preview can be confirmed.
CONFIRM_S = 600
#: Seconds for an action: its decision follows within a second, or after a restart of the service.
ACTION_S = 10.0
MAX_REASON = 400
_MAX_ISSUES = 100


class Refused(Exception):
    """The action was not done. The message says why."""


class Preview(NamedTuple):
    """The effect that an action would have."""

    action: Action
    request: Message
    #: Name and text of the fields of the command that would be appended.
    appended: list[tuple[str, str]]
    #: The events of the decision, in the words of a story.
    events: list[str]
    #: Name and text of the fields of the payment, or of the group, at present.
    present: list[tuple[str, str]]
    refusal: str
    #: Allows exactly this request of this operator for CONFIRM_S; empty if the rules refuse it.
    token: str


class Repairs:
    """Calls the services with the console's identity, for an operator who gave a password."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._key = secrets.token_bytes(32)
        self.actions = actions()

    async def issues(self) -> ListIssuesResponse:
        """Payments with money owed, stuck or in suspense. Raises Refused."""
        request = ListIssuesRequest(parent="groups/-", page_size=_MAX_ISSUES)
        found = await self._call("payments", f"/{OPERATORS.full_name}/ListIssues", request, ListIssuesResponse)
        assert isinstance(found, ListIssuesResponse)
        return found

    async def preview(self, name: str, form: Mapping[str, str], operator: str) -> Preview:
        """The effect that an action would have. Appends nothing. Raises BadForm and Refused."""
        action = self.actions[name]
        reason = " ".join(form.get("reason", "").split())
        if not reason:
            raise BadForm("reason: write why, it is recorded in the log")
        if len(reason) > MAX_REASON:
            raise BadForm(f"reason: at most {MAX_REASON} characters")
        request: Any = request_of(action, form, f"{reason} ({operator})")
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = str(uuid4())
        made = await (self._cancellation(request) if name == CANCEL else self._validated(action, request))
        present, events, refusal, version = made
        if "expected_version" in request.DESCRIPTOR.fields_by_name:
            request.expected_version = version
        sent = request.SerializeToString(deterministic=True)
        token = "" if refusal else self._sign(name, version, sent, operator)
        return Preview(action, request, rows(request), events, present, refusal, token)

    async def _validated(self, action: Action, request: Any) -> tuple[list[tuple[str, str]], list[str], str, int]:
        """The service's answer to a request: the payment, the events, the refusal and the payment's version."""
        request.validate_only = True
        found: Any = await self._do(action, request)
        request.validate_only = False
        payment = getattr(found, "payment", None)
        refusal = getattr(found, "refusal", "")
        return rows(payment) if payment else [], _lines(found.preview), refusal, payment.version if payment else 0

    async def _cancellation(self, request: Any) -> tuple[list[tuple[str, str]], list[str], str, int]:
        """The same for a group that would be cancelled."""
        group = await self._group(request.name)
        refusal = refusal_of(group)
        events = [] if refusal else _lines(events_of(group, request.reason))
        return rows(group), events, refusal, group.version

    async def apply(self, name: str, token: str, operator: str) -> list[tuple[str, str]]:
        """Does what a preview showed. Returns the state after it. Raises Refused."""
        action = self.actions[name]
        version, request = self._verified(action, token, operator)
        if name == CANCEL and (group := await self._group(request.name)).version != version:
            raise Refused(f"the group changed since the preview, to version {group.version}: make another one")
        log.warning("operator %s: %s of %s", operator, name, request.name)
        found: Any = await self._do(action, request)
        if getattr(found, "refusal", ""):
            raise Refused(found.refusal)
        return rows(found.payment if "payment" in found.DESCRIPTOR.fields_by_name else found)

    # --- calls -------------------------------------------------------------------------------------------------------

    async def _group(self, name: str) -> Group:
        found = await self._call("groups", f"/{GROUPS.full_name}/GetGroup", GetGroupRequest(name=name), Group)
        assert isinstance(found, Group)
        return found

    async def _do(self, action: Action, request: Message) -> Message:
        path = f"/{action.method.containing_service.full_name}/{action.name}"
        return await self._call(action.service, path, request, response_class(action), ACTION_S)

    async def _call(
        self, service: str, path: str, request: Message, response: type[Message], timeout_s: float = CALL_S
    ) -> Message:
        method = self._services.channel(service).unary_unary(
            path,
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=response.FromString,
        )
        try:
            answer: Message = await method(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise Refused(f"{error.code().name}: {error.details()}") from None
        return answer

    # --- confirmations -----------------------------------------------------------------------------------------------

    def _sign(self, name: str, version: int, request: bytes, operator: str) -> str:
        until = str(int(time.time()) + CONFIRM_S)
        signed = f"{until}.{version}.{base64.urlsafe_b64encode(request).decode()}"
        return f"{signed}.{self._mac(name, signed, operator)}"

    def _mac(self, *parts: str) -> str:
        return hmac.digest(self._key, "\n".join(parts).encode(), "sha256").hex()

    def _verified(self, action: Action, token: str, operator: str) -> tuple[int, Any]:
        """The version that the operator saw, and the request. Raises Refused."""
        signed, _, mac = token.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(action.name, signed, operator).encode()):
            raise Refused("this confirmation is not from a preview of yours")
        until, version, encoded = signed.split(".")
        if int(until) < time.time():
            raise Refused("the preview is too old: make another one")
        try:
            request = GetMessageClass(action.method.input_type).FromString(base64.urlsafe_b64decode(encoded))
        except (DecodeError, ValueError):
            raise Refused("this confirmation is not from a preview of yours") from None
        return int(version), request


def _lines(events: Iterable[PaymentEvent | GroupEvent]) -> list[str]:
    return [event_line(nameless(event)) for event in events]
