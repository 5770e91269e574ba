"""Who may see the operators' pages. With a file of operators, everybody needs a name and a password."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from console.web.passwords import Operators

#: The name of the operator of a request; empty without a file of operators.
OPERATOR: ContextVar[str] = ContextVar("operator", default="")
#: Passwords that are computed at a time: each takes 50 ms of a processor and 16 MB.
_AT_ONCE = 2


def authenticate(operators: Operators | None) -> Middleware:
    """The middleware that names the operator of each request."""
    gate = asyncio.Semaphore(_AT_ONCE)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if operators is not None:
            header = request.headers.get("Authorization", "")
            name = None
            if header and len(header) < 1_000:
                async with gate:
                    name = await asyncio.to_thread(operators.name_of, header)
            if name is None:
                raise web.HTTPUnauthorized(
                    headers={"WWW-Authenticate": 'Basic realm="Groupbuy console", charset="UTF-8"'},
                    text="a name and a password are needed\n",
                )
            OPERATOR.set(name)
        return await handler(request)

    return check


def from_own_page(request: web.Request) -> bool:
    """Whether a form was sent by a page of this listener, as browsers tell. Without a telling header: no."""
    if (site := request.headers.get("Sec-Fetch-Site")) is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin", "")
    return origin.partition("://")[2] == request.host
