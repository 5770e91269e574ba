"""Repair: the operator actions, each with a preview of what it would append, and a reason.

A preview is a call with `validate_only`. Only its own form can then do the action: it has a signature over the request,
the operator and the time, and the version of the payment that the operator saw.
"""

from __future__ import annotations

import base64
import hmac
import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from groupbuy.payments.v1.operator_pb2 import ListIssuesRequest, ListIssuesResponse

from console.pages.actions import SERVICE, Action, BadForm, actions, request_of, response_class, rows
from console.pages.services import CALL_S, Services

log = logging.getLogger(__name__)

#: Seconds for which a preview can be confirmed.
CONFIRM_S = 600
MAX_REASON = 400
_MAX_ISSUES = 100


class Refused(Exception):
    """The action was not done. The message says why."""


class Preview(NamedTuple):
    """What an action would do."""

    action: Action
    request: Message
    #: Name and text of the fields of the action that would be appended, and of the payment at present.
    appended: list[tuple[str, str]]
    payment: list[tuple[str, str]]
    refusal: str
    #: Allows exactly this request of this operator for CONFIRM_S.
    token: str


class Repairs:
    """Calls OperatorService with the console's identity, for an operator who gave a password."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._key = secrets.token_bytes(32)
        self.actions = actions()

    async def issues(self) -> ListIssuesResponse:
        """What is owed, stuck or in suspense. Raises Refused."""
        request = ListIssuesRequest(parent="groups/-", page_size=_MAX_ISSUES)
        found = await self._call("ListIssues", request, ListIssuesResponse)
        assert isinstance(found, ListIssuesResponse)
        return found

    async def preview(self, name: str, form: Mapping[str, str], operator: str) -> Preview:
        """What an action would do. Appends nothing. Raises BadForm and Refused."""
        action = self.actions[name]
        reason = " ".join(form.get("reason", "").split())
        if not reason:
            raise BadForm("reason: write why, it is recorded in the log")
        if len(reason) > MAX_REASON:
            raise BadForm(f"reason: at most {MAX_REASON} characters")
        request: Any = request_of(action, form, f"{reason} ({operator})")
        request.request_id = str(uuid4())
        request.validate_only = True
        found: Any = await self._call(name, request, response_class(action))
        request.validate_only = False
        request.expected_version = found.payment.version
        return Preview(
            action,
            request,
            rows(found.action),
            rows(found.payment),
            found.refusal,
            "" if found.refusal else self._sign(name, request.SerializeToString(deterministic=True), operator),
        )

    async def apply(self, name: str, token: str, operator: str) -> list[tuple[str, str]]:
        """Does what a preview showed. Returns the payment after it. Raises Refused."""
        action = self.actions[name]
        request: Any = self._verified(action, token, operator)
        log.warning("operator %s: %s of %s", operator, name, request.name)
        found: Any = await self._call(name, request, response_class(action))
        if found.refusal:
            raise Refused(found.refusal)
        return rows(found.payment)

    async def _call(self, name: str, request: Message, response: type[Message]) -> Message:
        method = self._services.channel("payments").unary_unary(
            f"/{SERVICE.full_name}/{name}",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=response.FromString,
        )
        try:
            answer: Message = await method(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            raise Refused(f"{error.code().name}: {error.details()}") from None
        return answer

    def _sign(self, name: str, request: bytes, operator: str) -> str:
        until = str(int(time.time()) + CONFIRM_S)
        encoded = base64.urlsafe_b64encode(request).decode()
        return f"{until}.{encoded}.{self._mac(name, until, encoded, operator)}"

    def _mac(self, *parts: str) -> str:
        return hmac.digest(self._key, "\n".join(parts).encode(), "sha256").hex()

    def _verified(self, action: Action, token: str, operator: str) -> Message:
        until, _, rest = token.partition(".")
        encoded, _, mac = rest.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(action.name, until, encoded, operator).encode()):
            raise Refused("this confirmation is not from a preview of yours")
        if int(until) < time.time():
            raise Refused("the preview is too old: make another one")
        try:
            return GetMessageClass(action.method.input_type).FromString(base64.urlsafe_b64decode(encoded))
        except (DecodeError, ValueError):
            raise Refused("this confirmation is not from a preview of yours") from None
