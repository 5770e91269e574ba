"""Stripe's API: payment intents, captures, cancellations, refunds and look-ups.

Calls use the same request handler and account book as the other wires; the Idempotency-Key is the key of the call.
"""

from __future__ import annotations

import hmac
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.account_book import Account, Request
from simulators.psp.accounts.holds import HoldState, KeyReused, NotFound
from simulators.psp.request_handler import RateLimited, RequestHandler, Unavailable
from simulators.psp.stripe import objects
from simulators.psp.stripe.currencies import MAX_AMOUNT, THREE_DECIMALS
from simulators.psp.stripe.objects import Json, StripeError

_QUERY = re.compile(r"""metadata\[['"]key['"]\]:['"]([^'"]+)['"]""")

Route = Callable[[web.Request], Awaitable[Json]]


class StripeApi:
    """Routes under /v1."""

    def __init__(self, handler: RequestHandler, key: str) -> None:
        self._handler = handler
        self._bearer = f"Bearer {key}"

    def routes(self) -> list[web.RouteDef]:
        """The routes to serve."""
        intents = "/v1/payment_intents"
        return [
            web.post(intents, self._answered(self._create)),
            web.get(f"{intents}/search", self._answered(self._search)),
            web.get(intents + "/{id}", self._answered(self._retrieve)),
            web.post(intents + "/{id}/capture", self._answered(self._capture)),
            web.post(intents + "/{id}/cancel", self._answered(self._cancel)),
            web.post("/v1/refunds", self._answered(self._refund)),
            web.get("/v1/refunds", self._answered(self._refunds)),
            web.get("/v1/refunds/{id}", self._answered(self._get_refund)),
        ]

    def _answered(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            headers = {"Request-Id": f"req_{uuid.uuid4().hex[:14]}"}
            try:
                self._authenticate(request)
                return web.json_response(await route(request), headers=headers)
            except StripeError as error:
                return web.json_response(error.body, status=error.status, headers=headers)
            except KeyReused as error:
                failed = StripeError(400, "idempotency_error", f"Keys for idempotent requests: {error}")
            except NotFound as error:
                failed = StripeError(404, "invalid_request_error", str(error), "resource_missing")
            except RateLimited as error:
                headers["Retry-After"] = "1"
                failed = StripeError(429, "invalid_request_error", str(error), "rate_limit")
            except Unavailable as error:
                failed = StripeError(500, "api_error", str(error))
            return web.json_response(failed.body, status=failed.status, headers=headers)

        return answer

    def _authenticate(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), self._bearer.encode()):
            raise StripeError(401, "invalid_request_error", "Invalid API Key provided")

    async def _create(self, request: web.Request) -> Json:
        form = await request.post()
        call = pb.AuthoriseRequest(
            key=_key(request),
            order=str(form.get("metadata[order]", "")),
            group=str(form.get("metadata[group]", "")),
            payment_method=f"{objects.WIRE}/{form.get('payment_method', '')}",
            amount_minor=_amount(form, "amount"),
            currency=str(form.get("currency", "")).upper(),
            sale=form.get("capture_method") != "manual",
        )
        _check_amount(call.amount_minor, call.currency)
        if form.get("confirm") != "true":
            raise StripeError(400, "invalid_request_error", "only confirm=true is supported", param="confirm")
        result, account = await self._call(call)
        if account is None:
            raise objects.declined(call, result.reason)
        return objects.intent(objects.as_made(account.hold), expand=_expands(form))

    async def _retrieve(self, request: web.Request) -> Json:
        intent = request.match_info["id"]
        return await self._read(intent, lambda account: _current_intent(account, expand=_expands(request.query)))

    async def _search(self, request: web.Request) -> Json:
        query = _QUERY.fullmatch(request.query.get("query", ""))
        if query is None:
            raise StripeError(400, "invalid_request_error", "only metadata['key']:'…' is supported", param="query")
        data: list[Json] = []
        fault = await self._handler.inject_before(query[1], effect=False)
        try:
            result = await self._handler.submit(pb.LookUpRequest(key=query[1]))
        except NotFound:
            result = pb.CallResult()
        if result.hold:
            data.append(_current_intent(await self._handler.account(result.hold), expand=_expands(request.query)))
        await self._handler.inject_after(fault)
        return {"object": "search_result", "data": data, "has_more": False, "url": request.path}

    async def _capture(self, request: web.Request) -> Json:
        form = await request.post()
        hold = objects.hold_of(request.match_info["id"])
        if "amount_to_capture" in form:
            amount_minor = _amount(form, "amount_to_capture")
        else:
            amount_minor = (await self._handler.account(hold)).hold.open_minor
        call = pb.CaptureRequest(key=_key(request), hold=hold, amount_minor=amount_minor)
        result, account = await self._call(call)
        if result.status == pb.STATUS_CAPTURED and account is not None:
            return _current_intent(account, expand=_expands(form))
        if result.reason == "card declined":
            raise StripeError(402, "card_error", "The issuer refused the capture.", "card_declined")
        if result.reason == "above what is held":
            raise StripeError(400, "invalid_request_error", result.reason, "amount_too_large")
        raise _unexpected_state(result, account)

    async def _cancel(self, request: web.Request) -> Json:
        call = pb.VoidRequest(key=_key(request), hold=objects.hold_of(request.match_info["id"]))
        result, account = await self._call(call)
        if result.status == pb.STATUS_VOIDED and account is not None:
            return _current_intent(account)
        raise _unexpected_state(result, account)

    async def _refund(self, request: web.Request) -> Json:
        form = await request.post()
        hold, key = objects.hold_of(str(form.get("payment_intent", ""))), _key(request)
        if "amount" in form:
            amount_minor = _amount(form, "amount")
        else:
            found = (await self._handler.account(hold)).hold
            amount_minor = found.captured_minor - found.refunded_minor
        call = pb.RefundRequest(key=key, hold=hold, amount_minor=amount_minor)
        result, account = await self._call(call)
        if result.status == pb.STATUS_REFUNDED and account is not None:
            return objects.refund(account.hold, key, result.amount_minor)
        code = "amount_too_large" if result.reason == "above what was captured" else "charge_not_captured"
        raise StripeError(400, "invalid_request_error", result.reason, code)

    async def _refunds(self, request: web.Request) -> Json:
        return await self._read(
            request.query.get("payment_intent", ""),
            lambda account: {"object": "list", "data": _refunds_of(account), "has_more": False, "url": request.path},
        )

    async def _get_refund(self, request: web.Request) -> Json:
        wanted = request.match_info["id"]

        def find(account: Account) -> Json:
            for one in _refunds_of(account):
                if one["id"] == wanted:
                    return one
            raise NotFound(f"no refund {wanted}")

        return await self._read(objects.intent_id(objects.hold_of_refund(wanted)), find)

    async def _call(self, call: Request) -> tuple[pb.CallResult, Account | None]:
        """Makes a call. Returns its result and its account, None if there is no hold."""
        fault = await self._handler.inject_before(call.key)
        result = await self._handler.submit(call)
        account = await self._handler.account(result.hold) if result.hold else None
        await self._handler.inject_after(fault)
        return result, account

    async def _read(self, intent: str, render: Callable[[Account], Json]) -> Json:
        fault = await self._handler.inject_before(intent, effect=False)
        found = render(await self._handler.account(objects.hold_of(intent)))
        await self._handler.inject_after(fault)
        return found


def _current_intent(account: Account, *, expand: bool = False) -> Json:
    """The payment intent of an account, in its current state."""
    captures = (key for key, result in account.calls.items() if result.status == pb.STATUS_CAPTURED)
    return objects.intent(account.hold, next(captures, ""), expand=expand)


def _refunds_of(account: Account) -> list[Json]:
    return [
        objects.refund(account.hold, key, result.amount_minor)
        for key, result in account.calls.items()
        if result.status == pb.STATUS_REFUNDED
    ]


def _unexpected_state(result: pb.CallResult, account: Account | None) -> StripeError:
    state = account.hold.state if account is not None else HoldState.EXPIRED
    return StripeError(
        400,
        "invalid_request_error",
        f"This PaymentIntent could not be changed because it is {state.name.lower()}: {result.reason or 'over'}.",
        "payment_intent_unexpected_state",
    )


def _key(request: web.Request) -> str:
    return request.headers.get("Idempotency-Key") or uuid.uuid4().hex


def _expands(given: Any) -> bool:
    return "latest_charge" in [given[name] for name in given if name.startswith("expand")]


def _amount(form: Any, name: str) -> int:
    text = str(form.get(name, ""))
    if not text.isdecimal() or int(text) < 1:
        code = "parameter_invalid_integer"
        raise StripeError(400, "invalid_request_error", f"Invalid positive integer: {name}", code, param=name)
    return int(text)


def _check_amount(amount_minor: int, currency: str) -> None:
    if amount_minor > MAX_AMOUNT:
        raise StripeError(400, "invalid_request_error", "Amount must be no more than 99999999", "amount_too_large")
    if currency in THREE_DECIMALS and amount_minor % 10:
        raise StripeError(400, "invalid_request_error", "Amount must be divisible by 10", param="amount")
