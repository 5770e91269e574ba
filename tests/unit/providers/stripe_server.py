"""A server in place of Stripe: answers from a script, in the shapes of Stripe's API, and records the requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.test_utils import TestServer

from chassis.outside.resolve import RetryPolicy
from services.payments.providers.call_limiter import CallLimiter
from services.payments.providers.stripe.adapter import StripeProvider
from services.payments.providers.stripe.calls import CallSettings

KEY = "sk_test_0123456789abcdef"


class Sent(NamedTuple):
    """A request that arrived."""

    method: str
    path: str
    form: dict[str, str]
    idempotency_key: str
    authorization: str


class Answer(NamedTuple):
    """A scripted answer."""

    body: dict[str, Any]
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012


def failed(status: int, kind: str, code: str = "", message: str = "no", **more: str) -> dict[str, Any]:
    """The body of an error of Stripe's."""
    return {"error": {"type": kind, "message": message, **({"code": code} if code else {}), **more}}


class StripeServer:
    """Answers `METHOD /path` with the next of its answers; the last one stays."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answers: dict[str, list[Answer]] = {}
        self.url = ""

    def on(self, route: str, *answers: Answer | dict[str, Any]) -> None:
        self.answers[route] = [one if isinstance(one, Answer) else Answer(one) for one in answers]

    def requests(self, route: str) -> list[Sent]:
        return [one for one in self.sent if f"{one.method} {one.path}" == route]

    async def handle(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()} | dict(request.query)
        headers = request.headers
        key, authorization = headers.get("Idempotency-Key", ""), headers.get("Authorization", "")
        self.sent.append(Sent(request.method, request.path, form, key, authorization))
        script = self.answers.get(f"{request.method} {request.path}")
        if not script:
            return web.json_response(failed(404, "invalid_request_error", "resource_missing"), status=404)
        answer = script.pop(0) if len(script) > 1 else script[0]
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)


@asynccontextmanager
async def served(
    settings: CallSettings | None = None, *, key: Any = KEY, limiter: CallLimiter | None = None
) -> AsyncIterator[tuple[StripeServer, StripeProvider]]:
    """The server, and an adapter that calls it."""
    made = StripeServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    async with TestServer(app) as server:
        made.url = str(server.make_url("")).rstrip("/")
        policy = RetryPolicy(attempts=3, attempt_s=10, budget_s=20, wait_s=0.001)
        provider = StripeProvider(key, made.url, settings=settings, policy=policy, limiter=limiter)
        try:
            yield made, provider
        finally:
            await provider.close()


def intent(status: str = "requires_capture", **more: Any) -> dict[str, Any]:
    """A payment intent with its charge."""
    card = {"brand": "visa", "network": "visa", "capture_before": 1_700_600_000}
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "status": status,
        "currency": "eur",
        "amount": 8900,
        "amount_capturable": 8900 if status == "requires_capture" else 0,
        "amount_received": 8900 if status == "succeeded" else 0,
        "created": 1_700_000_000,
        "client_secret": "pi_1_secret_x",
        "latest_charge": {
            "id": "ch_1",
            "object": "charge",
            "payment_method_details": {"type": "card", "card": card},
        },
        "metadata": {"order": "o", "group": "g", "key": "o:authorise:1"},
        "livemode": False,
        **more,
    }
