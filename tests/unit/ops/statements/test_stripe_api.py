"""Stripe's balance transactions are read page by page; an error that a retry can't change ends the reading."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ops.errors import OpsError
from ops.statements import stripe_api
from ops.statements.movements import Kind, Movement

PATH = "/v1/balance_transactions"


def transaction(number: int, **fields: Any) -> dict[str, Any]:
    source = {
        "id": f"ch_{number}",
        "payment_intent": f"pi_{number}",
        "metadata": {"order": "o1", "group": "g1", "environment": "live"},
    }
    made = {"id": f"txn_{number}", "amount": 1500, "fee": 47, "currency": "eur", "created": 1_769_853_600}
    return {**made, "reporting_category": "charge", "source": source, **fields}


class Account:
    """A scripted account: its transactions, the requests it saw, and answers that come first."""

    def __init__(self, *transactions: dict[str, Any]) -> None:
        self.transactions = transactions
        self.seen: list[dict[str, str]] = []
        self.first: list[web.Response] = []

    async def list(self, request: web.Request) -> web.Response:
        self.seen.append(dict(request.query))
        assert request.headers["Authorization"] == "Bearer rk_test"
        if self.first:
            return self.first.pop(0)
        names = [one["id"] for one in self.transactions]
        start = names.index(request.query["starting_after"]) + 1 if "starting_after" in request.query else 0
        page = self.transactions[start : start + 2]
        return web.json_response({"data": page, "has_more": start + 2 < len(names)})


async def read(account: Account, **limits: int) -> list[Movement]:
    app = web.Application()
    app.router.add_get(PATH, account.list)
    async with TestServer(app) as server:
        return [one async for one in stripe_api.movements("rk_test", str(server.make_url("/")), **limits)]


async def test_all_pages_are_read_once() -> None:
    account = Account(*(transaction(number) for number in range(5)))
    found = await read(account, since_ms=1_000_000)
    assert [one.reference for one in found] == [f"txn_{number}" for number in range(5)]
    assert [query.get("starting_after") for query in account.seen] == [None, "txn_1", "txn_3"]
    assert account.seen[0]["created[gte]"] == "1000"
    assert account.seen[0]["expand[]"] == "data.source"


async def test_a_transaction_has_its_payment_and_our_ids() -> None:
    (made,) = await read(Account(transaction(1)))
    assert (made.kind, made.amount_minor, made.fee_minor, made.currency) == (Kind.CHARGE, 1500, 47, "EUR")
    assert (made.hold, made.order, made.group, made.environment) == ("pi_1", "o1", "g1", "live")


async def test_stripes_units_become_minor_units() -> None:
    # Stripe's amounts in ISK have two decimals that are always zero.
    (made,) = await read(Account(transaction(1, currency="isk", amount=150_000, fee=0)))
    assert made.amount_minor == 1500


async def test_a_busy_or_failing_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripe_api, "PAUSE_S", 0.001)
    account = Account(transaction(1))
    account.first = [web.Response(status=429, headers={"Retry-After": "0"}), web.Response(status=502)]
    assert len(await read(account)) == 1
    assert len(account.seen) == 3


async def test_a_wrong_key_ends_the_reading_at_once() -> None:
    account = Account(transaction(1))
    account.first = [web.json_response({"error": {"message": "Invalid API Key"}}, status=401)]
    with pytest.raises(OpsError, match="401: Invalid API Key"):
        await read(account)
    assert len(account.seen) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reporting_category": "surprise"}, "txn_1 has reporting category 'surprise'"),
        ({"currency": "zzz"}, "txn_1 has currency 'ZZZ'"),
        ({"amount": "much"}, "txn_1 is not a balance transaction"),
    ],
)
async def test_a_malformed_transaction_is_refused_by_its_id(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OpsError, match=message):
        await read(Account(transaction(1, **fields)))
