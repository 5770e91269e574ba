"""Reads what share links lead to, with the share page's own identity: three methods, and nothing else.

A link in a busy chat is opened thousands of times: results are kept for a moment, and all viewers of a group share one
stream from the groups service.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import grpc
import structlog
from groupbuy.groups.v1.groups_pb2 import Group, GroupState, WatchGroupRequest
from groupbuy.groups.v1.groups_pb2_grpc import GroupServiceStub
from groupbuy.groups.v1.links_pb2 import ResolveShareLinkRequest, ResolveShareLinkResponse
from groupbuy.groups.v1.links_pb2_grpc import LinkServiceStub

from chassis.identity.tls import RotatingChannel
from groupbuy_client.errors import of_rpc

log = structlog.stdlib.get_logger(__name__)

CALL_S = 3.0
#: Seconds for which what a link leads to is not read again, and the number of links that are kept.
KEEP_S = 1.0
_MAX_KEPT = 2_000
_RETRY_S = 0.5


class Wrong(StrEnum):
    """Why a link leads nowhere; also the prefix of the page's texts."""

    EXPIRED = "expired_link"
    TAMPERED = "tampered"
    UNKNOWN = "unknown"
    AWAY = "away"
    BUSY = "busy"


_REASONS = {
    "LINK_EXPIRED": Wrong.EXPIRED,
    "LINK_SIGNATURE": Wrong.TAMPERED,
    "LINK_KEY_UNKNOWN": Wrong.UNKNOWN,
    "LINK_MALFORMED": Wrong.UNKNOWN,
}


class LinkFailed(Exception):
    """A link leads nowhere."""

    def __init__(self, wrong: Wrong) -> None:
        super().__init__(wrong.value)
        self.wrong = wrong


class _Kept(NamedTuple):
    until_s: float
    found: ResolveShareLinkResponse


class Links:
    """Resolves links and follows groups."""

    def __init__(self, channel: RotatingChannel) -> None:
        self._channel = channel
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._asking: dict[str, asyncio.Future[ResolveShareLinkResponse]] = {}

    async def resolve(self, token: str) -> ResolveShareLinkResponse:
        """The target of a link. Raises LinkFailed."""
        kept = self._kept.get(token)
        if kept is not None and kept.until_s > time.monotonic():
            return kept.found
        asking = self._asking.get(token)
        if asking is None:
            asking = asyncio.ensure_future(self._ask(token))
            self._asking[token] = asking
            asking.add_done_callback(lambda _: self._asking.pop(token, None))
        return await asyncio.shield(asking)

    async def _ask(self, token: str) -> ResolveShareLinkResponse:
        stub = LinkServiceStub(self._channel.channel())
        try:
            found = await stub.ResolveShareLink(ResolveShareLinkRequest(share_token=token), timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            raise LinkFailed(_wrong(error)) from None
        self._kept[token] = _Kept(time.monotonic() + KEEP_S, found)
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return found

    async def follow(self, name: str, take: Callable[[Group], None], away: Callable[[], None]) -> None:
        """Calls `take` with the group now and after each change, until it is final. `away`: the stream ended."""
        version = 0
        while True:
            stub = GroupServiceStub(self._channel.channel())
            try:
                async for group in stub.WatchGroup(WatchGroupRequest(name=name, from_version=version)):
                    version = group.version
                    if group.state != GroupState.GROUP_STATE_FORMING:
                        self._forget(name)
                    take(group)
            except grpc.aio.AioRpcError as error:
                if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED}:
                    log.warning("a group can't be watched", code=error.code().name)
                    return
                away()
                await asyncio.sleep(_RETRY_S)
            else:
                return

    def _forget(self, name: str) -> None:
        """A group closed: its open pages load themselves again, so what its links led to is read again."""
        for token in [token for token, kept in self._kept.items() if kept.found.group.name == name]:
            del self._kept[token]

    async def close(self) -> None:
        """Closes the connections."""
        await self._channel.close()


def _wrong(error: grpc.aio.AioRpcError) -> Wrong:
    reason = of_rpc(error).reason
    if reason in _REASONS:
        return _REASONS[reason]
    match error.code():
        case grpc.StatusCode.NOT_FOUND | grpc.StatusCode.INVALID_ARGUMENT:
            return Wrong.UNKNOWN
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Wrong.BUSY
    log.warning("a link can't be resolved", code=error.code().name)
    return Wrong.AWAY
