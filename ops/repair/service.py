"""Calls of the payments' OperatorService, with the certificate of the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.operator_pb2_grpc import OperatorServiceStub

from chassis.routing.peer_calls import CALLER, MAX_CALLER
from groupbuy_client.errors import GroupbuyError, of_rpc
from ops.errors import DOES_NOT_HOLD, OpsError, cannot_run
from ops.security import OpsSettings, dial_payments, encrypted, operator_name, timeout_s
from ops.who import who

#: Seconds for one repair: its decision follows within a second, or after a restart of the service.
CALL_S = 30.0
PAGE_SIZE = 500
#: Errors that say something about the payment. The others say that the command can't run.
_JUDGED = frozenset({grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED, grpc.StatusCode.ALREADY_EXISTS})


class Operators:
    """The service at one address."""

    def __init__(self, target: str, channel: grpc.aio.Channel) -> None:
        self._target = target
        self._stub: Any = OperatorServiceStub(channel)
        # With a certificate the service takes the operator from it, and refuses the metadata.
        self._metadata = () if encrypted() else ((CALLER, _name()),)

    async def call(self, method: str, request: Any) -> Any:
        """Makes one call. Raises OpsError."""
        try:
            return await getattr(self._stub, method)(request, timeout=CALL_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _ops_error(self._target, request, of_rpc(error)) from None

    async def issues(
        self, kinds: Sequence[int] = (), *, alarms_only: bool = False, parent: str = "groups/-"
    ) -> list[pb.Issue]:
        """All issues, sorted by payment. Raises OpsError."""
        request = pb.ListIssuesRequest(parent=parent, alarms_only=alarms_only, page_size=PAGE_SIZE)
        request.kinds.extend(kinds)  # type: ignore[arg-type] # kinds by their numbers
        found: list[pb.Issue] = []
        while True:
            page = await self.call("ListIssues", request)
            found += page.issues
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


@asynccontextmanager
async def operators(target: str) -> AsyncIterator[Operators]:
    """The service at host:port. Raises OpsError if it can't be reached within $GROUPBUY_OPS_TIMEOUT_SECONDS."""
    async with dial_payments(target) as channel:
        try:
            async with asyncio.timeout(timeout_s()):
                await channel.channel_ready()
        except TimeoutError:
            raise cannot_run(
                f"no payments service answers at {target} within {timeout_s():g} s: start a stack with `make up`, or "
                f"use --payments host:port; on a secured system set {OpsSettings.variable('tls_certificate')}, "
                f"{OpsSettings.variable('tls_key')} and {OpsSettings.variable('tls_ca')}"
            ) from None
        yield Operators(target, channel)


async def read_issues(target: str) -> list[pb.Issue]:
    """All issues of the service at host:port. Raises OpsError."""
    async with operators(target) as service:
        return await service.issues()


def _name() -> str:
    """The operator on a system without certificates."""
    plain = (operator_name() or who()).encode("ascii", "replace").decode()
    return "".join(one if one.isprintable() else "?" for one in plain)[:MAX_CALLER]


def _ops_error(target: str, request: Any, error: GroupbuyError) -> OpsError:
    sentence = f"{error.reason or error.code.name}: {error.message}"
    fields = [f"  {field}: {problem}" for field, problem in error.fields.items()]
    request_id = getattr(request, "request_id", "")
    if error.code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE) and request_id:
        sentence += f"; the repair may be done all the same: repeat the command with --request-id {request_id}"
    if error.code in _JUDGED:
        return OpsError(sentence, DOES_NOT_HOLD, fields)
    return cannot_run(f"{target}: {sentence}", fields)
