"""Takes providers' webhooks over HTTP, the same way as NotifyPayment does: verified, appended, and then acknowledged.

Anybody can reach this port, and only a signature says who a request is from. So nothing of a request is believed before
it, and what comes before is limited: connections, the time and size of a request, its headers, and requests for each
address. The bytes that are verified are the bytes of the body as it came: an encoded body is refused. A webhook is
acknowledged once the broker has it, so the provider sends again what was lost. Each refusal is JSON.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog
from aiohttp import web
from grpc import StatusCode

from chassis.admission.rate_limit import Bucket, Limit, Sparingly
from chassis.rpc.errors import ApiError
from eventlog.core.errors import BrokerUnavailable
from services.payments.providers.connections import MAX_BYTES, MAX_CONNECTIONS, Connection, Refused, Server

log = structlog.stdlib.get_logger(__name__)

#: Seconds for the body of a request.
BODY_S = 5.0
#: Providers give up on an answer after five seconds or more.
TAKE_S = 4.0
#: Requests of one address. Providers call from few, and a proxy before us from one.
PER_ADDRESS = Limit(1_000, 5_000)
#: Addresses that are counted. The one that called longest ago is forgotten.
MAX_ADDRESSES = 1_024
#: Lines about requests that are refused: anybody can cause one.
LINES = Limit(1, 20)
#: Calls under way get so long to end when the service stops.
SHUTDOWN_GRACE_S = 2.0
#: HTTP statuses of refusals. A provider sends again what was not answered 2xx.
STATUSES = {StatusCode.PERMISSION_DENIED: 401, StatusCode.UNAUTHENTICATED: 401, StatusCode.INVALID_ARGUMENT: 404}

_PATH = re.compile(r"/webhooks/(?P<provider>[a-z][a-z0-9_]{0,31})", re.ASCII)


class Takes(Protocol):
    """services.payments.api.webhook_ingest.Notifying."""

    async def take(self, provider: str, found: Sequence[tuple[str, str]], body: bytes, timeout_s: float) -> object:
        """Appends a notification; returns once it is acknowledged. Raises ApiError, BrokerUnavailable."""
        ...


class Webhooks:
    """Serves POST /webhooks/{provider}; for a developer's machine also GET /health with the state of each provider."""

    def __init__(self, listen: str, notifying: Takes, health: Callable[[], Mapping[str, bool]] | None) -> None:
        """`listen` is host:port; port 0 takes a free one. Empty: nothing is served. `health` answers everybody: None
        where callers have to be known."""
        self._listen = listen
        self._notifying = notifying
        self._health = health
        self._runner: web.ServerRunner | None = None
        self._lines = Sparingly(LINES)
        self._addresses: OrderedDict[str, Bucket] = OrderedDict()
        #: host:port that is served, once started.
        self.address = ""

    async def start(self, partitions: int) -> None:
        """Serves. The publisher must have been started. Raises OSError when the port is taken."""
        if not self._listen:
            return
        self._runner = web.ServerRunner(Server(self._answer, self._garbled), shutdown_timeout=SHUTDOWN_GRACE_S)
        await self._runner.setup()
        host, _, port = self._listen.rpartition(":")
        await web.TCPSite(self._runner, host.strip("[]"), int(port), backlog=MAX_CONNECTIONS).start()
        self.address = f"{host}:{self._runner.addresses[0][1]}"
        log.info("taking webhooks", address=self.address)

    async def stop(self) -> None:
        """Takes no more; those under way get a moment."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _refused(self, error: Refused) -> web.Response:
        """The answer to a request that is refused. The connection ends with it."""
        self._log(error.status, error.message)
        answer = _answered(error.status, error.message)
        answer.headers.update(error.headers)
        answer.force_close()
        return answer

    def _garbled(self, address: str, error: Refused) -> web.Response:
        try:
            self._count(address)
        except Refused as limit:
            return self._refused(limit)
        return self._refused(error)

    def _log(self, status: int, message: str) -> None:
        if (more := self._lines.let()) is not None:
            log.warning("a webhook was refused", status=status, why=message, **more)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            self._count(request.remote or "")
            if request.raw_path == "/health" and self._health is not None:
                return self._say_health(self._health())
            provider = _provider(request)
            body = await _body(request)
        except Refused as error:
            return self._refused(error)
        if isinstance(request.protocol, Connection):
            request.protocol.heard()
        return await self._take(provider, list(request.headers.items()), body)

    async def _take(self, provider: str, found: Sequence[tuple[str, str]], body: bytes) -> web.Response:
        try:
            await self._notifying.take(provider, found, body, TAKE_S)
        except ApiError as error:
            status = STATUSES.get(error.code, 500)
            self._log(status, error.message)
            return _answered(status, error.message)
        except BrokerUnavailable as error:
            log.warning("a webhook could not be appended; its provider sends it again", error=str(error))
            return _answered(503, "not now")
        return _answered(200, "taken")

    def _count(self, address: str) -> None:
        """Counts a request. Raises Refused."""
        key = _network(address)
        bucket = self._addresses.get(key)
        if bucket is None:
            bucket = self._addresses[key] = Bucket(PER_ADDRESS)
            if len(self._addresses) > MAX_ADDRESSES:
                self._addresses.popitem(last=False)
        else:
            self._addresses.move_to_end(key)
        wait_s = bucket.take()
        if wait_s:
            raise Refused(429, "too many requests", {"Retry-After": str(int(wait_s) + 1)})

    @staticmethod
    def _say_health(health: Mapping[str, bool]) -> web.Response:
        said = {name: "SERVING" if well else "NOT_SERVING" for name, well in health.items()}
        return web.json_response({"providers": said}, status=200 if all(health.values()) else 503)


def _provider(request: web.BaseRequest) -> str:
    """Whose notification it says it is. Raises Refused."""
    match = _PATH.fullmatch(request.raw_path)
    if match is None:
        raise Refused(404, "there is nothing here")
    if request.method != "POST":
        raise Refused(405, "webhooks are posted", {"Allow": "POST"})
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(415, "an encoded body is not what was signed")
    return match["provider"]


async def _body(request: web.BaseRequest) -> bytes:
    """The bytes as they came. Raises Refused."""
    if (request.content_length or 0) > MAX_BYTES:
        raise Refused(413, f"more than {MAX_BYTES} bytes")
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_S:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, f"more than {MAX_BYTES} bytes") from None
    except ConnectionError:
        # Ended by the peer, or for another one: nobody is answered.
        raise Refused(400, "the connection ended before the body") from None
    except web.RequestPayloadError:
        raise Refused(400, "the body is no HTTP") from None


def _network(address: str) -> str:
    """A host has an IPv4 address, and 2^64 addresses of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if found.version == 6 else address


def _answered(status: int, message: str) -> web.Response:
    # In the form that WeChat Pay wants; the others read the status alone.
    return web.json_response({"code": "SUCCESS" if status == 200 else "FAIL", "message": message}, status=status)
