"""Who may see the operators' pages. With a file of operators, everybody needs a name and a password."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from chassis.admission.rate_limit import BucketsByKey, RateLimit
from console.web.passwords import Operators

#: The name of the operator of a request; empty without a file of operators.
OPERATOR: ContextVar[str] = ContextVar("operator", default="")
#: Passwords that are computed at a time: each takes 50 ms of a processor and 16 MB.
_AT_ONCE = 2
#: Passwords of one address that are computed, right and wrong ones: known right ones cost nothing.
PER_ADDRESS = RateLimit(calls_per_second=1, burst=20)
_MAX_ADDRESSES = 10_000


def authenticate(operators: Operators | None) -> Middleware:
    """The middleware that names the operator of each request."""
    gate = asyncio.Semaphore(_AT_ONCE)
    addresses = BucketsByKey(_MAX_ADDRESSES)

    async def name_of(known: Operators, request: web.Request, header: str) -> str | None:
        name = known.recent(header)
        # A flood of wrong passwords delays nobody whose password is known.
        if name is None and known.is_plausible(header):
            if (seconds := addresses.take(request.remote or "", PER_ADDRESS)) > 0:
                raise web.HTTPTooManyRequests(
                    headers={"Retry-After": str(int(seconds) + 1)}, text="too many passwords; retry later\n"
                )
            async with gate:
                name = await asyncio.to_thread(known.name_of, header)
        return name

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if operators is not None:
            name = await name_of(operators, request, request.headers.get("Authorization", ""))
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
