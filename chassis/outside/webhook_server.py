"""HTTP server for webhooks: verifies a notification, appends it to the log, and acknowledges it afterwards.

The port is open to everybody, and only the signature identifies a sender. Before the signature is verified, a request
is limited in connections, time, size, headers and rate per address. An encoded body is refused, since signatures cover
the bytes on the wire. A webhook is acknowledged once the broker has it; the provider sends the others again. Responses
are JSON.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import structlog
from aiohttp import web
from grpc import StatusCode

from chassis.admission.rate_limit import BucketsByKey, LogThrottle, RateLimit
from chassis.outside.webhook_connections import MAX_BYTES, MAX_CONNECTIONS, Connection, ConnectionServer, Refused
from chassis.rpc.errors import ApiError
from eventlog.core.errors import BrokerUnavailable

log = structlog.stdlib.get_logger(__name__)

#: Seconds for the body of a request.
BODY_S = 5.0
#: Seconds for appending a notification. Providers wait five seconds or more for an answer.
INGEST_S = 4.0
#: Requests from one address. Providers call from few addresses, a reverse proxy from one.
PER_ADDRESS = RateLimit(1_000, 5_000)
#: Addresses with a counter. The one that called longest ago is evicted.
MAX_ADDRESSES = 1_024
#: Log lines about refused requests, which anybody can cause.
LOG_LINES = RateLimit(1, 20)
#: Seconds that requests in flight get when the service stops.
SHUTDOWN_GRACE_S = 2.0
#: HTTP status of each refusal, else 500. A provider sends a notification again unless the status is 2xx.
STATUSES = {StatusCode.PERMISSION_DENIED: 401, StatusCode.UNAUTHENTICATED: 401, StatusCode.INVALID_ARGUMENT: 404}

_PATH = re.compile(r"/webhooks/(?P<provider>[a-z][a-z0-9_]{0,31})", re.ASCII)

#: Appends a notification, given its provider, headers, body and a time-out in seconds; returns once the broker has
#: acknowledged it. Raises ApiError, BrokerUnavailable.
Ingest: TypeAlias = Callable[[str, Sequence[tuple[str, str]], bytes, float], Awaitable[object]]


class WebhookServer:
    """Serves POST /webhooks/{provider}, and in insecure mode GET /health with the state of each provider."""

    def __init__(self, listen: str, ingest: Ingest, health: Callable[[], Mapping[str, bool]] | None) -> None:
        """`listen` is host:port, port 0 for any free port, or empty for none. `health` is public; None hides it."""
        self._listen = listen
        self._ingest = ingest
        self._health = health
        self._runner: web.ServerRunner | None = None
        self._log_throttle = LogThrottle(LOG_LINES)
        self._addresses = BucketsByKey(MAX_ADDRESSES)
        #: host:port once started.
        self.address = ""

    async def start(self, partitions: int) -> None:
        """Starts serving. The publisher has to be started first. Raises OSError if the port is taken."""
        if not self._listen:
            return
        server = ConnectionServer(self._respond, self._respond_malformed)
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_GRACE_S)
        await self._runner.setup()
        host, _, port = self._listen.rpartition(":")
        await web.TCPSite(self._runner, host.strip("[]"), int(port), backlog=MAX_CONNECTIONS).start()
        self.address = f"{host}:{self._runner.addresses[0][1]}"
        log.info("serving webhooks", address=self.address)

    async def stop(self) -> None:
        """Stops serving. Requests in flight get SHUTDOWN_GRACE_S to end."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            self._count(request.remote or "")
            if request.raw_path == "/health" and self._health is not None:
                return self._health_response(self._health())
            provider = _provider(request)
            body = await read_body(request)
        except Refused as error:
            return self._refusal(error)
        if isinstance(request.protocol, Connection):
            request.protocol.request_received()
        return await self._append(provider, list(request.headers.items()), body)

    async def _append(self, provider: str, headers: Sequence[tuple[str, str]], body: bytes) -> web.Response:
        try:
            await self._ingest(provider, headers, body, INGEST_S)
        except ApiError as error:
            status = STATUSES.get(error.code, 500)
            self._log_refusal(status, error.message)
            return _response(status, error.message)
        except BrokerUnavailable as error:
            log.warning("webhook not appended; the provider will send it again", error=str(error))
            return _response(503, "not now")
        return _response(200, "taken")

    def _respond_malformed(self, address: str, error: Refused) -> web.Response:
        try:
            self._count(address)
        except Refused as limit:
            return self._refusal(limit)
        return self._refusal(error)

    def _refusal(self, error: Refused) -> web.Response:
        """The response to a refused request. It closes the connection."""
        self._log_refusal(error.status, error.message)
        response = _response(error.status, error.message)
        response.headers.update(error.headers)
        response.force_close()
        return response

    def _log_refusal(self, status: int, message: str) -> None:
        if (more := self._log_throttle.allow()) is not None:
            log.warning("webhook refused", status=status, reason=message, **more)

    def _count(self, address: str) -> None:
        """Counts a request against its address. Raises Refused above the rate limit."""
        wait_s = self._addresses.take(_network(address), PER_ADDRESS)
        if wait_s:
            raise Refused(429, "too many requests", {"Retry-After": str(int(wait_s) + 1)})

    @staticmethod
    def _health_response(health: Mapping[str, bool]) -> web.Response:
        states = {name: "SERVING" if available else "NOT_SERVING" for name, available in health.items()}
        return web.json_response({"providers": states}, status=200 if all(health.values()) else 503)


def _provider(request: web.BaseRequest) -> str:
    """The provider that the path names. Raises Refused."""
    match = _PATH.fullmatch(request.raw_path)
    if match is None:
        raise Refused(404, "no such path")
    if request.method != "POST":
        raise Refused(405, "webhooks are posted", {"Allow": "POST"})
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(415, "an encoded body is not what was signed")
    return match["provider"]


async def read_body(request: web.BaseRequest) -> bytes:
    """The bytes of a body as sent, MAX_BYTES at most. Raises Refused."""
    if (request.content_length or 0) > MAX_BYTES:
        raise Refused(413, f"more than {MAX_BYTES} bytes")
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {BODY_S:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, f"more than {MAX_BYTES} bytes") from None
    except ConnectionError:
        # The peer closed the connection, or the server evicted it: nobody reads this response.
        raise Refused(400, "the connection ended before the body") from None
    except web.RequestPayloadError:
        raise Refused(400, "the body is not valid HTTP") from None


def _network(address: str) -> str:
    """The unit that is rate-limited: an IPv4 address, or an IPv6 /64, all of which one host may use."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if found.version == 6 else address


def _response(status: int, message: str) -> web.Response:
    # The form that WeChat Pay requires. Other providers read the status alone.
    return web.json_response({"code": "SUCCESS" if status == 200 else "FAIL", "message": message}, status=status)
