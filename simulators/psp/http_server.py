"""The provider's HTTP: Stripe's API, WeChat Pay's, the statement as CSV, and the notifications that it sends.

Wires and serves; the faces say what is answered. Must never be reachable where no address for it is set.
"""

from __future__ import annotations

import asyncio
import csv
import io
from itertools import islice

from aiohttp import web

from simulators.psp.notifier import Notifier
from simulators.psp.request_handler import Desk
from simulators.psp.settings import Settings
from simulators.psp.stripe.http_api import StripeFace
from simulators.psp.wechat.http_api import WeChatFace
from simulators.psp.wechat.signer import Seal
from simulators.psp.writer import Writer

COLUMNS = (
    "hold",
    "order",
    "group",
    "currency",
    "authorised_minor",
    "captured_minor",
    "released_minor",
    "refunded_minor",
    "open_minor",
    "captures",
    "wire",
)
CHUNK = 500
#: Calls under way get so long to end.
SHUTDOWN_GRACE_S = 1.0


class Web:
    """HTTP of a simulated provider."""

    def __init__(self, settings: Settings, desk: Desk, writer: Writer) -> None:
        self._settings = settings
        self._desk = desk
        self._writer = writer
        self._runner: web.AppRunner | None = None
        self._notifier: Notifier | None = None

    async def start(self) -> str:
        """Serves, if there is an address for it, and begins to notify; host:port. Raises RuntimeError."""
        settings = self._settings
        if not settings.http_listen and not settings.notify_url:
            return ""
        seal = Seal(settings.wechat_keys or settings.database.parent / "wechat_keys")
        self._notifier = Notifier(settings, self._desk, self._writer, seal)
        self._notifier.start()
        if not settings.http_listen:
            return ""
        app = web.Application(client_max_size=1024 * 1024)
        app.add_routes(StripeFace(self._desk, settings.stripe_key.get_secret_value()).routes())
        app.add_routes(WeChatFace(self._desk, seal).routes())
        app.add_routes([web.get("/statement.csv", self._statement), web.get("/health", _health)])
        # A caller that went away is not waited for: with time-outs played, thousands would pile up.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_GRACE_S)
        await self._runner.setup()
        host, _, port = settings.http_listen.rpartition(":")
        site = web.TCPSite(self._runner, host, int(port))
        try:
            await site.start()
        except OSError as error:
            raise RuntimeError(f"can't listen on {settings.http_listen}: {error}") from error
        return f"{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Lets calls under way end, for a moment, and stops notifying."""
        if self._notifier is not None:
            await self._notifier.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _statement(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/csv; charset=utf-8"})
        await answer.prepare(request)
        await answer.write(_csv([COLUMNS]))
        entries = self._desk.ledger.statement()

        def chunk() -> bytes:
            return _csv([tuple(getattr(one, name) for name in COLUMNS) for one in islice(entries, CHUNK)])

        while some := await asyncio.to_thread(chunk):
            await answer.write(some)
        await answer.write_eof()
        return answer


def _csv(rows: list[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"status": "serving"})
