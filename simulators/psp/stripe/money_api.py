"""Stripe's balance transactions, payouts, disputes and early fraud warnings, and the account's own data.

Reads meet the injected faults that have no effect. Lists are pages, newest first, with Stripe's cursor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.balance import Booking
from simulators.psp.accounts.holds import NotFound
from simulators.psp.accounts.incidents import Dispute
from simulators.psp.request_handler import RequestHandler
from simulators.psp.stripe import money_objects, objects
from simulators.psp.stripe.objects import Json, StripeError
from simulators.psp.stripe.payment_api import charge_of, refunds_of
from simulators.psp.stripe.requests import created_of, expands, limit_of

ACCOUNT = "acct_simulated"


class MoneyApi:
    """Routes of the merchant's money."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler

    def routes(self) -> list[tuple[str, str, Callable[[web.Request], Awaitable[Json]]]]:
        """Method, path and handler of each route."""
        return [
            ("GET", "/v1/account", self._account),
            ("GET", "/v1/balance", self._balance),
            ("GET", "/v1/balance_transactions", self._transactions),
            ("GET", "/v1/balance_transactions/{id}", self._transaction),
            ("GET", "/v1/payouts", self._payouts),
            ("GET", "/v1/payouts/{id}", self._payout),
            ("GET", "/v1/disputes", self._disputes),
            ("GET", "/v1/disputes/{id}", self._dispute),
            ("POST", "/v1/disputes/{id}", self._answer_dispute),
            ("POST", "/v1/disputes/{id}/close", self._close_dispute),
            ("GET", "/v1/radar/early_fraud_warnings", self._warnings),
        ]

    async def _account(self, request: web.Request) -> Json:
        await self._fault(request)
        return {"id": ACCOUNT, "object": "account", "charges_enabled": True, "default_currency": "eur"}

    async def _balance(self, request: web.Request) -> Json:
        await self._fault(request)
        sums = await self._handler.run(lambda: self._handler.book.balance.available(objects.WIRE))
        available = [{"amount": minor, "currency": currency.lower()} for currency, minor in sums.items()]
        return {"object": "balance", "available": available, "pending": [], "livemode": False}

    async def _transactions(self, request: web.Request) -> Json:
        await self._fault(request)
        kind = request.query.get("type", "")
        kinds = tuple(one for one, (name, _) in money_objects.KINDS.items() if name == kind)
        if kind and not kinds:
            raise StripeError(400, "invalid_request_error", f"Invalid type: {kind}", param="type")
        page = await self._page(request, kinds, request.query.get("payout", ""))
        expand = expands(request.query, "data.source")
        data = [money_objects.balance_transaction(one, await self._source(one) if expand else None) for one in page[0]]
        return _list(request, data, more=page[1])

    async def _transaction(self, request: web.Request) -> Json:
        await self._fault(request)
        booking = await self._booking(request.match_info["id"])
        source = await self._source(booking) if expands(request.query, "source") else None
        return money_objects.balance_transaction(booking, source)

    async def _payouts(self, request: web.Request) -> Json:
        await self._fault(request)
        page, more = await self._page(request, (pb.BALANCE_KIND_PAYOUT,), "")
        return _list(request, [money_objects.payout(one) for one in page], more=more)

    async def _payout(self, request: web.Request) -> Json:
        await self._fault(request)
        name = request.match_info["id"]
        found = await self._handler.run(lambda: self._handler.book.balance.page(objects.WIRE, source=name, limit=1))
        if not found:
            raise NotFound(f"no payout {name}")
        return money_objects.payout(found[0])

    async def _disputes(self, request: web.Request) -> Json:
        await self._fault(request)
        intent = request.query.get("payment_intent") or request.query.get("charge", "")
        since_ms, until_ms = created_of(request)

        def find() -> list[Json]:
            book = self._handler.book
            found = book.incidents.disputes(objects.hold_of(intent) if intent else "")
            with_holds = ((one, book.load(one.hold)) for one in reversed(found))
            return [
                money_objects.dispute(one, hold)
                for one, hold in with_holds
                if objects.owns(hold.payment_method) and since_ms <= one.opened_ms < (until_ms or one.opened_ms + 1)
            ]

        data, limit = await self._handler.run(find), limit_of(request)
        names = [one["id"] for one in data]
        after = request.query.get("starting_after", "")
        begin = names.index(after) + 1 if after in names else 0
        return _list(request, data[begin : begin + limit], more=len(data) > begin + limit)

    async def _dispute(self, request: web.Request) -> Json:
        await self._fault(request)
        return await self._handler.run(lambda: self._rendered(*self._found(request.match_info["id"])))

    async def _answer_dispute(self, request: web.Request) -> Json:
        """Takes evidence; the bank examines it if it is submitted, which it is by default."""
        form = await request.post()
        if not any(name.startswith("evidence[") for name in form) or form.get("submit") == "false":
            return await self._dispute(request)
        return await self._move(request, pb.DISPUTE_STATE_UNDER_REVIEW)

    async def _close_dispute(self, request: web.Request) -> Json:
        return await self._move(request, pb.DISPUTE_STATE_LOST)

    async def _move(self, request: web.Request, state: pb.DisputeState.ValueType) -> Json:
        name = request.match_info["id"]
        fault = await self._handler.inject_before(f"{name}/{state}")
        moved, hold = await self._handler.run(lambda: self._handler.life.update_dispute(name, state))
        await self._handler.inject_after(fault)
        return money_objects.dispute(moved, hold)

    async def _warnings(self, request: web.Request) -> Json:
        await self._fault(request)
        intent = request.query.get("payment_intent") or request.query.get("charge", "")

        def find() -> list[Json]:
            book = self._handler.book
            found = book.incidents.warnings(objects.hold_of(intent) if intent else "")
            with_holds = [(book.load(name), at_ms) for name, at_ms in found.items()]
            return [
                money_objects.fraud_warning(hold, at_ms)
                for hold, at_ms in reversed(with_holds)
                if objects.owns(hold.payment_method)
            ]

        data = await self._handler.run(find)
        return _list(request, data[: limit_of(request)], more=len(data) > limit_of(request))

    async def _fault(self, request: web.Request) -> None:
        await self._handler.inject_after(await self._handler.inject_before(request.path_qs, effect=False))

    async def _page(self, request: web.Request, kinds: tuple[int, ...], payout: str) -> tuple[list[Booking], bool]:
        """A page of the query's transactions, and whether more follow."""
        limit, (since_ms, until_ms) = limit_of(request), created_of(request)
        after = request.query.get("starting_after", "")
        before_id = 0
        if after:
            name = after
            if after.startswith("po_"):
                name = f"txn_{after.removeprefix('po_')}"
            before_id = (await self._booking(name)).id
        found = await self._handler.run(
            lambda: self._handler.book.balance.page(
                objects.WIRE,
                kinds=kinds,
                payout=payout,
                since_ms=since_ms,
                until_ms=until_ms,
                before_id=before_id,
                limit=limit + 1,
            )
        )
        return found[:limit], len(found) > limit

    async def _booking(self, name: str) -> Booking:
        digits = name.removeprefix("txn_")
        found = None
        if digits.isdecimal():
            found = await self._handler.run(lambda: self._handler.book.balance.get(int(digits)))
        if found is None or found.wire != objects.WIRE:
            raise NotFound(f"no balance transaction {name}")
        return found

    async def _source(self, booking: Booking) -> Json:
        """The object that a balance transaction is about."""
        if booking.kind == pb.BALANCE_KIND_PAYOUT:
            return money_objects.payout(booking)
        if booking.kind in {pb.BALANCE_KIND_DISPUTE, pb.BALANCE_KIND_DISPUTE_REVERSAL}:
            return await self._handler.run(lambda: self._rendered(*self._found(booking.source)))
        account = await self._handler.account(booking.hold)
        if booking.kind == pb.BALANCE_KIND_CHARGE:
            return charge_of(account)
        wanted = money_objects.source_id(booking)
        return next(one for one in refunds_of(account) if one["id"] == wanted)

    def _found(self, name: str) -> tuple[Dispute, str]:
        dispute = self._handler.book.incidents.dispute(name)
        if dispute is None:
            raise NotFound(f"no dispute {name}")
        return dispute, dispute.hold

    def _rendered(self, dispute: Dispute, hold: str) -> Json:
        return money_objects.dispute(dispute, self._handler.book.load(hold))


def _list(request: web.Request, data: list[Json], *, more: bool) -> Json:
    return {"object": "list", "data": data, "has_more": more, "url": request.path}
