"""The HTTP port for metrics and probes: a thread with an event loop of its own, so that it answers while the service is
busy, recovering or stuck.

The port is for the monitoring network: it has no authentication, and answers GET of a few fixed paths. Connections are
bounded in number and time (chassis/outside/webhook_connections.py). The thread takes the interpreter's lock for one
metric at a time and has a lower priority than the service's threads.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import structlog
from aiohttp import web

from chassis.outside.webhook_connections import ConnectionServer, Refused
from eventlog.runtime.abort import abort

log = structlog.stdlib.get_logger(__name__)

#: Connections at a time. Another one evicts the one that has waited longest for a request.
MAX_CONNECTIONS = 16
#: Seconds for which an answer is sent again to others. It bounds the cost of many scrapes.
REUSE_S = 0.1
#: Nice value of the thread, relative to the process. On a busy processor it gets a third of another thread's time. A
#: thread of much lower priority would be suspended while it holds the interpreter's lock, and the event loop with it.
PRIORITY = 5
START_S = 5.0
STOP_S = 2.0


class Answer(NamedTuple):
    """The response to a GET."""

    status: int
    content_type: str
    body: bytes


#: Makes the answer of a path. Called on the listener's thread.
Page = Callable[[], Answer]


class HttpListener:
    """Serves pages by path until it is stopped."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        """Binds the address; port 0: any free one. Raises OSError."""
        self._pages = dict(pages)
        self._latest: dict[str, tuple[float, Answer]] = {}
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._socket = socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
        #: host:port that it listens on.
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, name="http listener", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._started = threading.Event()

    def start(self) -> None:
        """Starts the thread, and returns once it serves."""
        self._thread.start()
        self._started.wait(START_S)

    def stop(self) -> None:
        """Ends the thread. Does nothing if it never started."""
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None:
            with suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(stopping.set)
            self._thread.join(STOP_S)
        self._socket.close()

    def _run(self) -> None:
        try:
            _lower_priority()
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - the process ends here
            abort("the HTTP listener failed", error)

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = ConnectionServer(self._respond, _malformed, limit=MAX_CONNECTIONS)
        runner = web.ServerRunner(server, shutdown_timeout=STOP_S / 2)
        await runner.setup()
        await web.SockSite(runner, self._socket, backlog=MAX_CONNECTIONS).start()
        self._started.set()
        try:
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        page = self._pages.get(request.raw_path.partition("?")[0])
        if page is None:
            return web.Response(status=404, text=f"no such path; there are {', '.join(self._pages)}\n")
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, headers={"Allow": "GET, HEAD"}, text="pages are read with GET\n")
        answer = self._answer(request.raw_path, page)
        headers = {"Content-Type": answer.content_type, "Cache-Control": "no-store"}
        return web.Response(status=answer.status, body=answer.body, headers=headers)

    def _answer(self, path: str, page: Page) -> Answer:
        made_at, answer = self._latest.get(path, (0.0, None))
        if answer is None or time.monotonic() - made_at >= REUSE_S:
            answer = page()
            self._latest[path] = time.monotonic(), answer
        return answer


def _malformed(_address: str, error: Refused) -> web.Response:
    response = web.Response(status=error.status, text=f"{error.message}\n")
    response.force_close()
    return response


def _lower_priority() -> None:
    # Elsewhere than on Linux the number of a thread is not that of a process, and nothing is changed.
    with suppress(OSError):
        if os.path.exists("/proc/self/task"):  # noqa: PTH110 - no path is made
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(own + PRIORITY, 19))
