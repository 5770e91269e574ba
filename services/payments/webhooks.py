"""Takes providers' webhooks over HTTP, the same way as NotifyPayment does: checked, appended, and only then thanked.

A webhook is acknowledged once the broker has it, so the provider sends again what was lost. Must never append what is
not signed, nor answer before the broker did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import structlog
from aiohttp import web
from grpc import StatusCode

from chassis.errors import ApiError
from eventlog.errors import BrokerUnavailable

log = structlog.stdlib.get_logger(__name__)

#: No provider's notification is near this size.
MOST_BYTES = 128 * 1024
#: Providers give up on an answer after five seconds or more.
TAKE_S = 4.0
#: Calls under way get so long to end when the service stops.
LAST_WORDS_S = 2.0
#: HTTP statuses of refusals. Whatever is not 2xx is sent again.
STATUSES = {StatusCode.PERMISSION_DENIED: 401, StatusCode.UNAUTHENTICATED: 401, StatusCode.INVALID_ARGUMENT: 404}


class Takes(Protocol):
    """services.payments.api.notifying.Notifying."""

    async def take(self, provider: str, found: Mapping[str, str], body: bytes, timeout_s: float) -> object:
        """Appends a notification; returns once it is acknowledged. Raises ApiError, BrokerUnavailable."""
        ...


class Webhooks:
    """Serves POST /webhooks/{provider}, and GET /health with the state of each provider."""

    def __init__(self, listen: str, notifying: Takes, health: Callable[[], Mapping[str, bool]]) -> None:
        """`listen` is host:port; port 0 takes a free one. Empty: nothing is served."""
        self._listen = listen
        self._notifying = notifying
        self._health = health
        self._runner: web.AppRunner | None = None
        #: host:port that is served, once started.
        self.address = ""

    async def start(self, partitions: int) -> None:
        """Serves. The publisher must have been started. Raises OSError when the port is taken."""
        if not self._listen:
            return
        app = web.Application(client_max_size=MOST_BYTES)
        app.add_routes([web.post("/webhooks/{provider}", self._take), web.get("/health", self._say_health)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=LAST_WORDS_S)
        await self._runner.setup()
        host, _, port = self._listen.rpartition(":")
        await web.TCPSite(self._runner, host.strip("[]"), int(port)).start()
        self.address = f"{host}:{self._runner.addresses[0][1]}"
        log.info("taking webhooks", address=self.address)

    async def stop(self) -> None:
        """Takes no more; those under way get a moment."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        provider, found = request.match_info["provider"], {name.lower(): one for name, one in request.headers.items()}
        try:
            await self._notifying.take(provider, found, await request.read(), TAKE_S)
        except ApiError as error:
            return _answer(STATUSES.get(error.code, 500), error.message)
        except BrokerUnavailable as error:
            log.warning("a webhook could not be appended; its provider sends it again", error=str(error))
            return _answer(503, "not now")
        return _answer(200, "taken")

    async def _say_health(self, request: web.Request) -> web.Response:
        health = self._health()
        said = {name: "SERVING" if well else "NOT_SERVING" for name, well in health.items()}
        return web.json_response({"providers": said}, status=200 if all(health.values()) else 503)


def _answer(status: int, message: str) -> web.Response:
    # In the form that WeChat Pay wants; the others read the status alone.
    return web.json_response({"code": "SUCCESS" if status == 200 else "FAIL", "message": message}, status=status)
