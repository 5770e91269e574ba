"""HTTP server of the provider: the APIs of Stripe and WeChat Pay, the statement as CSV, and outgoing notifications.

Without a configured address nothing is served.
"""

from __future__ import annotations

import asyncio
import csv
import io
from itertools import islice

from aiohttp import web

from simulators.psp.accounts.group_commit import GroupCommit
from simulators.psp.notifications.notifier import Notifier
from simulators.psp.request_handler import RequestHandler
from simulators.psp.settings import Settings
from simulators.psp.stripe.http_api import StripeApi
from simulators.psp.wechat.http_api import WeChatApi
from simulators.psp.wechat.signer import Signer

#: Columns of the statement.
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
    "environment",
    "refunds_undone_minor",
    "disputed_minor",
    "fees_minor",
)
#: Rows written at once.
CHUNK = 500
#: Seconds that calls in flight get to end.
SHUTDOWN_GRACE_S = 1.0


class HttpServer:
    """HTTP server and notifier of a simulated provider."""

    def __init__(self, settings: Settings, handler: RequestHandler, group_commit: GroupCommit) -> None:
        self._settings = settings
        self._handler = handler
        self._group_commit = group_commit
        self._runner: web.AppRunner | None = None
        self._notifier: Notifier | None = None
        self._stripe: StripeApi | None = None

    async def start(self) -> str:
        """Starts what is configured. Returns host:port, or "" without an address. Raises RuntimeError."""
        settings = self._settings
        if not settings.http_listen and not settings.notify_url:
            return ""
        signer = Signer(settings.wechat_keys or settings.database.parent / "wechat_keys")
        self._notifier = Notifier(settings, self._handler, self._group_commit, signer)
        self._notifier.start()
        if not settings.http_listen:
            return ""
        app = web.Application(client_max_size=1024 * 1024)
        self._stripe = StripeApi(self._handler, settings.stripe_key.get_secret_value())
        app.add_routes(self._stripe.routes())
        app.add_routes(WeChatApi(self._handler, signer).routes())
        app.add_routes([web.get("/statement.csv", self._statement), web.get("/health", _health)])
        # Cancels the handlers of callers that disconnected: injected time-outs would pile up thousands of them.
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
        """Stops notifying and serving. Calls in flight get SHUTDOWN_GRACE_S to end."""
        if self._notifier is not None:
            await self._notifier.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._stripe is not None:
            self._stripe.close()

    async def _statement(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/csv; charset=utf-8"})
        await answer.prepare(request)
        await answer.write(_csv([COLUMNS]))
        entries = self._handler.book.statement()

        def chunk() -> bytes:
            return _csv([tuple(getattr(one, name) for name in COLUMNS) for one in islice(entries, CHUNK)])

        while rows := await asyncio.to_thread(chunk):
            await answer.write(rows)
        await answer.write_eof()
        return answer


def _csv(rows: list[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"status": "serving"})
