"""Stripe's API: authentication, idempotency keys and errors of its routes.

Calls use the same request handler and account book as the other wires; the Idempotency-Key is the key of the call.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web

from simulators.psp.accounts.holds import KeyReused, MethodRefused, NotFound, NotPossible
from simulators.psp.request_handler import RateLimited, RequestHandler, Unavailable
from simulators.psp.stripe.idempotency import Answer, IdempotentAnswers
from simulators.psp.stripe.money_api import MoneyApi
from simulators.psp.stripe.objects import Json, StripeError
from simulators.psp.stripe.payment_api import PaymentApi

Route = Callable[[web.Request], Awaitable[Json]]


class StripeApi:
    """Routes under /v1."""

    def __init__(self, handler: RequestHandler, key: str) -> None:
        self._answers = IdempotentAnswers(handler)
        self._payments = PaymentApi(handler)
        self._money = MoneyApi(handler)
        self._bearer = f"Bearer {key}"

    def routes(self) -> list[web.RouteDef]:
        """The routes to serve."""
        routes = (*self._payments.routes(), *self._money.routes())
        return [web.route(method, path, self._answered(route)) for method, path, route in routes]

    def close(self) -> None:
        """Ends calls whose callers have left."""
        self._answers.close()

    def _answered(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            headers = {"Request-Id": f"req_{uuid.uuid4().hex[:14]}"}
            try:
                self._authenticate(request)
                made = await self._answers.answer(request, lambda: _made(request, route))
            except StripeError as error:
                made = Answer(error.status, error.body, {}, kept=False)
            return web.json_response(made.body, status=made.status, headers={**headers, **made.headers})

        return answer

    def _authenticate(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), self._bearer.encode()):
            raise StripeError(401, "invalid_request_error", "Invalid API Key provided")


async def _made(request: web.Request, route: Route) -> Answer:
    """The answer of a route, also for its errors."""
    try:
        return Answer(200, await route(request), {})
    except StripeError as error:
        return Answer(error.status, error.body, {}, kept=error.executed)
    except KeyReused as error:
        failed = StripeError(400, "idempotency_error", f"Keys for idempotent requests: {error}")
    except NotFound as error:
        failed = StripeError(404, "invalid_request_error", str(error), "resource_missing")
    except MethodRefused as error:
        failed = StripeError(400, "invalid_request_error", str(error), param="payment_method")
    except NotPossible as error:
        failed = StripeError(400, "invalid_request_error", str(error))
    except RateLimited as error:
        failed = StripeError(429, "invalid_request_error", str(error), "rate_limit")
        return Answer(429, failed.body, {"Retry-After": str(error.retry_after_s or 1)}, kept=False)
    except Unavailable as error:
        return Answer(500, StripeError(500, "api_error", str(error)).body, {})
    return Answer(failed.status, failed.body, {}, kept=False)
