"""A reverse proxy that records requests and the status of their answers, and can replace the status of an object."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web


class Exchange(NamedTuple):
    """One request, and the status and the JSON of its answer."""

    method: str
    path: str
    form: str
    status: int
    answer: Any


@dataclass
class RecordingProxy:
    """The recorded exchanges, and the replacements of `status` by the type of an object."""

    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    statuses: dict[str, str] = field(default_factory=dict)

    def replaced(self, answer: Any) -> Any:
        """An answer with the statuses replaced, in lists too."""
        if isinstance(answer, dict):
            if answer.get("object") in self.statuses:
                answer = {**answer, "status": self.statuses[answer["object"]]}
            if isinstance(answer.get("data"), list):
                answer = {**answer, "data": [self.replaced(one) for one in answer["data"]]}
        return answer


@asynccontextmanager
async def recording(target: str) -> AsyncIterator[RecordingProxy]:
    """Runs a proxy to a base URL."""
    proxy = RecordingProxy()

    async def forward(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in {"host"}}
        async with session.request(request.method, target + request.path_qs, data=body, headers=headers) as made:
            answer = json.loads(await made.read())
        proxy.exchanges.append(Exchange(request.method, request.path, body.decode(), made.status, answer))
        return web.json_response(proxy.replaced(answer), status=made.status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as session:
            yield proxy
    finally:
        await runner.cleanup()
