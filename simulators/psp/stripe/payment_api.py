"""Stripe's payment intents, captures, cancellations, refunds, searches, customers and saved payment methods."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.account_book import DISPUTED, REFUND_REFUSED, Account, Request
from simulators.psp.accounts.details import NO_DETAILS
from simulators.psp.accounts.holds import HoldState, NotFound
from simulators.psp.request_handler import RequestHandler
from simulators.psp.stripe import objects
from simulators.psp.stripe.objects import Json, StripeError
from simulators.psp.stripe.requests import (
    SEARCHABLE,
    amount_of,
    check_amount,
    expands,
    given_metadata,
    key_of,
    metadata_of,
    search_clauses,
)

#: Refusals of a refund: message and code.
_REFUND_ERRORS = {
    "above what was captured": ("Refund amount is greater than the unrefunded amount", "amount_too_large"),
    REFUND_REFUSED: ("This charge can't be refunded.", "charge_not_refundable"),
    DISPUTED: ("The charge has been charged back and can't be refunded.", "charge_disputed"),
}


class PaymentApi:
    """Routes of payments."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler

    def routes(self) -> list[tuple[str, str, Callable[[web.Request], Awaitable[Json]]]]:
        """Method, path and handler of each route."""
        intents = "/v1/payment_intents"
        return [
            ("POST", intents, self._create),
            ("GET", f"{intents}/search", self._search),
            ("GET", intents + "/{id}", self._retrieve),
            ("POST", intents + "/{id}/capture", self._capture),
            ("POST", intents + "/{id}/cancel", self._cancel),
            ("POST", intents + "/{id}/confirm", self._confirm),
            ("POST", "/v1/refunds", self._refund),
            ("GET", "/v1/refunds", self._refunds),
            ("GET", "/v1/refunds/{id}", self._get_refund),
            ("GET", "/v1/charges/{id}", self._get_charge),
            ("POST", "/v1/customers", self._create_customer),
            ("GET", "/v1/payment_methods/{id}", self._get_method),
            ("POST", "/v1/payment_methods/{id}/attach", self._attach),
        ]

    async def _create(self, request: web.Request) -> Json:
        form, key = await request.post(), key_of(request)
        order, group = str(form.get("metadata[order]", "")), str(form.get("metadata[group]", ""))
        method = str(form.get("payment_method", ""))
        standard = {"order": order, "group": group, "key": request.headers.get("Idempotency-Key", "")}
        call = pb.AuthoriseRequest(
            key=key,
            order=order,
            group=group,
            payment_method=f"{objects.WIRE}/{method}",
            amount_minor=amount_of(form, "amount"),
            currency=str(form.get("currency", "")).upper(),
            sale=form.get("capture_method") != "manual",
            customer=str(form.get("customer", "")),
            save_method=bool(form.get("setup_future_usage")),
            **given_metadata(form, standard),
        )
        minimum = self._handler.faults.behaviour.minimum_amounts
        check_amount(call.amount_minor, call.currency, minimum=minimum)
        if form.get("confirm") != "true":
            raise StripeError(400, "invalid_request_error", "only confirm=true is supported", param="confirm")
        if form.get("off_session") == "true" and method.endswith("_action"):
            message = "This payment requires authentication, and the customer is not there."
            raise StripeError(402, "card_error", message, "authentication_required", executed=True)
        result, account = await self._call(call)
        if account is None:
            raise objects.declined(call, result.reason)
        details = account.details.get(key, NO_DETAILS)
        return objects.intent(objects.as_made(account.hold), expand=expands(form), details=details)

    async def _retrieve(self, request: web.Request) -> Json:
        intent = request.match_info["id"]
        return await self._read(intent, lambda account: _current_intent(account, expand=expands(request.query)))

    async def _search(self, request: web.Request) -> Json:
        clauses = search_clauses(request.query.get("query", ""))
        name = next(one for one in SEARCHABLE if one in clauses)
        fault = await self._handler.inject_before(clauses[name], effect=False)
        holds = await self._handler.run(lambda: self._found(name, clauses[name]))
        found = [_current_intent(await self._handler.account(hold), expand=expands(request.query)) for hold in holds]
        data = [one for one in found if clauses.items() <= one["metadata"].items()]
        await self._handler.inject_after(fault)
        return {"object": "search_result", "data": data, "has_more": False, "url": request.path}

    def _found(self, name: str, value: str) -> list[str]:
        """Holds whose metadata may have a value, newest first, without those that the search does not find yet."""
        book = self._handler.book
        until_ms = self._handler.now_ms - self._handler.faults.behaviour.search_lag_ms
        found = dict(book.details.holds_named(name, value))
        if name == "key":
            with suppress(NotFound):
                # Made before details were kept.
                found.setdefault(book.look_up(value).hold, book.details.get(value).at_ms)
        return [hold for hold, at_ms in found.items() if hold and at_ms <= until_ms]

    async def _capture(self, request: web.Request) -> Json:
        form = await request.post()
        hold = objects.hold_of(request.match_info["id"])
        if "amount_to_capture" in form:
            amount_minor = amount_of(form, "amount_to_capture")
        else:
            amount_minor = (await self._handler.account(hold)).hold.open_minor
        metadata = given_metadata(form, {"capture_key": request.headers.get("Idempotency-Key", "")})
        call = pb.CaptureRequest(key=key_of(request), hold=hold, amount_minor=amount_minor, **metadata)
        result, account = await self._call(call)
        if result.status == pb.STATUS_CAPTURED and account is not None:
            return _current_intent(account, expand=expands(form))
        if result.reason == "card declined":
            message = "The issuer refused the capture."
            raise StripeError(402, "card_error", message, "card_declined", executed=True)
        if result.reason == "above what is held":
            raise StripeError(400, "invalid_request_error", result.reason, "amount_too_large", executed=True)
        raise _unexpected_state(result, account)

    async def _cancel(self, request: web.Request) -> Json:
        call = pb.VoidRequest(key=key_of(request), hold=objects.hold_of(request.match_info["id"]))
        result, account = await self._call(call)
        if result.status == pb.STATUS_VOIDED and account is not None:
            return _current_intent(account)
        raise _unexpected_state(result, account)

    async def _confirm(self, request: web.Request) -> Json:
        """Renews the shopper's link of an intent that requires an action."""
        form, hold = await request.post(), objects.hold_of(request.match_info["id"])
        fault = await self._handler.inject_before(key_of(request))
        account = await self._handler.account(hold)
        if account.hold.state is not HoldState.PENDING:
            raise _unexpected_state(pb.CallResult(), account)
        await self._handler.inject_after(fault)
        return _current_intent(account, expand=expands(form))

    async def _refund(self, request: web.Request) -> Json:
        form = await request.post()
        hold, key = objects.hold_of(str(form.get("payment_intent") or form.get("charge", ""))), key_of(request)
        found = (await self._handler.account(hold)).hold
        amount_minor = amount_of(form, "amount") if "amount" in form else found.captured_minor - found.refunded_minor
        standard = {
            "order": found.order,
            "group": found.group,
            "key": request.headers.get("Idempotency-Key", ""),
        }
        call = pb.RefundRequest(key=key, hold=hold, amount_minor=amount_minor, **given_metadata(form, standard))
        result, account = await self._call(call)
        if result.status == pb.STATUS_REFUNDED and account is not None:
            return objects.refund(account.hold, key, result.amount_minor, account.details.get(key, NO_DETAILS))
        message, code = _REFUND_ERRORS.get(result.reason, (result.reason, "charge_not_captured"))
        raise StripeError(400, "invalid_request_error", message, code, executed=True)

    async def _refunds(self, request: web.Request) -> Json:
        return await self._read(
            request.query.get("payment_intent") or request.query.get("charge", ""),
            lambda account: {"object": "list", "data": refunds_of(account), "has_more": False, "url": request.path},
        )

    async def _get_refund(self, request: web.Request) -> Json:
        wanted = request.match_info["id"]

        def find(account: Account) -> Json:
            for one in refunds_of(account):
                if one["id"] == wanted:
                    return one
            raise NotFound(f"no refund {wanted}")

        return await self._read(objects.intent_id(objects.hold_of_refund(wanted)), find)

    async def _get_charge(self, request: web.Request) -> Json:
        return await self._read(request.match_info["id"], charge_of)

    async def _create_customer(self, request: web.Request) -> Json:
        form, key = await request.post(), key_of(request)
        await self._handler.inject_after(await self._handler.inject_before(key))
        # Derived from the key, so that a repeated request has the same customer.
        name = f"cus_{uuid.uuid5(uuid.NAMESPACE_OID, key).hex[:14]}"
        created = self._handler.now_ms // 1000
        return {"id": name, "object": "customer", "created": created, "metadata": metadata_of(form)}

    async def _get_method(self, request: web.Request) -> Json:
        method = request.match_info["id"]
        fault = await self._handler.inject_before(method, effect=False)
        methods = self._handler.book.payment_methods
        customer = await self._handler.run(lambda: methods.customer(f"{objects.WIRE}/{method}"))
        await self._handler.inject_after(fault)
        return _method(method, customer or "")

    async def _attach(self, request: web.Request) -> Json:
        method, customer = request.match_info["id"], str((await request.post()).get("customer", ""))
        if not customer:
            raise StripeError(400, "invalid_request_error", "Missing required param: customer.", param="customer")

        def attach() -> None:
            with self._handler.book.transaction():
                self._handler.book.payment_methods.attach(f"{objects.WIRE}/{method}", customer)

        fault = await self._handler.inject_before(f"attach/{method}")
        await self._handler.run(attach)
        await self._handler.inject_after(fault)
        return _method(method, customer)

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


def charge_of(account: Account) -> Json:
    """The charge of an account."""
    details = account.details.get(account.hold.key, NO_DETAILS)
    return objects.charge(account.hold, _current_intent(account)["metadata"], details.at_ms)


def refunds_of(account: Account) -> list[Json]:
    """The refunds of an account, undone ones included."""
    return [
        objects.refund(
            account.hold,
            key,
            result.amount_minor,
            account.details.get(key, NO_DETAILS),
            account.undone.get(key),
        )
        for key, result in account.calls.items()
        if result.status == pb.STATUS_REFUNDED
    ]


def _method(method: str, customer: str) -> Json:
    return {"id": method, "object": "payment_method", "type": "card", "customer": customer or None}


def _current_intent(account: Account, *, expand: bool = False) -> Json:
    """The payment intent of an account, in its current state."""
    capture = next((key for key, result in account.calls.items() if result.status == pb.STATUS_CAPTURED), "")
    return objects.intent(
        account.hold,
        capture,
        expand=expand,
        details=account.details.get(account.hold.key, NO_DETAILS),
        capture_details=account.details.get(capture, NO_DETAILS),
    )


def _unexpected_state(result: pb.CallResult, account: Account | None) -> StripeError:
    state = account.hold.state if account is not None else HoldState.EXPIRED
    return StripeError(
        400,
        "invalid_request_error",
        f"This PaymentIntent could not be changed because it is {state.name.lower()}: {result.reason or 'over'}.",
        "payment_intent_unexpected_state",
        executed=True,
    )
