"""Stripe's balance transactions as movements, page by page from the API.

Source: https://docs.stripe.com/api/balance_transactions/list. Amounts are in Stripe's units, see payment_providers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from ops.errors import CANNOT_RUN, OpsError
from ops.statements.movements import Kind, Movement
from ops.statements.stripe_report import CATEGORIES, PROVIDER
from shared_kernel.currencies import EXPONENTS
from shared_kernel.payment_providers import CAPABILITIES, STRIPE

API = "https://api.stripe.com"
PAGE = 100
TIMEOUT_S = 60.0
#: Attempts of one page, and the first pause between them, which doubles.
ATTEMPTS, PAUSE_S = 5, 0.5
_MAX_PAUSE_S = 60.0


async def movements(key: str, base: str = API, since_ms: int = 0, until_ms: int = 0) -> AsyncIterator[Movement]:
    """All balance transactions of the account, newest first. Holds one page in memory. Raises OpsError.

    `since_ms` and `until_ms` limit their creation, the second exclusive; 0: no limit.
    """
    query = {"limit": str(PAGE), "expand[]": "data.source"}
    if since_ms:
        query["created[gte]"] = str(since_ms // 1000)
    if until_ms:
        query["created[lt]"] = str(until_ms // 1000)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}, timeout=timeout) as session:
        while True:
            page = await _page(session, f"{base.rstrip('/')}/v1/balance_transactions", query)
            found = page.get("data")
            if not isinstance(found, list):
                raise OpsError("Stripe returned a page without balance transactions", CANNOT_RUN)
            for one in found:
                yield movement_of(one)
            if not page.get("has_more") or not found:
                return
            query["starting_after"] = str(found[-1]["id"])


async def _page(session: aiohttp.ClientSession, url: str, query: Mapping[str, str]) -> dict[str, Any]:
    failed = ""
    for attempt in range(ATTEMPTS):
        pause_s = PAUSE_S * 2**attempt
        try:
            async with session.get(url, params=query) as response:
                text = await response.text()
                if response.status == 200:
                    return dict(json.loads(text))
                failed = f"{response.status}: {_message(text)}"
                if response.status != 429 and response.status < 500:
                    break
                pause_s = max(pause_s, _retry_after_s(response.headers.get("Retry-After", "")))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            failed = f"{type(error).__name__}: {error}"
        if attempt < ATTEMPTS - 1:
            await asyncio.sleep(min(pause_s, _MAX_PAUSE_S))
    raise OpsError(f"Stripe's balance transactions can't be read: {failed}", CANNOT_RUN)


def _retry_after_s(text: str) -> float:
    return float(text) if text.isdecimal() and len(text) < 6 else 0.0


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return "no error of Stripe's"


def movement_of(one: Mapping[str, Any]) -> Movement:
    """The movement of a balance transaction, whose source is expanded. Raises OpsError with its id."""
    name = str(one.get("id", "a transaction without an id"))
    try:
        category = str(one["reporting_category"])
        currency = str(one["currency"]).upper()
        kind = CATEGORIES.get(category)
        if kind is None:
            raise OpsError(f"Stripe's {name} has reporting category {category!r}, which is not known", CANNOT_RUN)
        if currency not in EXPONENTS:
            raise OpsError(f"Stripe's {name} has currency {currency!r}, which is not of ISO 4217", CANNOT_RUN)
        source = one.get("source")
        about: Mapping[str, Any] = source if isinstance(source, Mapping) else {}
        metadata: Mapping[str, Any] = about.get("metadata") or {}
        return Movement(
            PROVIDER,
            kind,
            name,
            int(one["created"]) * 1000,
            currency,
            _minor(one["amount"], currency),
            _minor(one.get("fee") or 0, currency),
            _payment(kind, about),
            str(metadata.get("order", "")),
            str(metadata.get("group", "")),
            str(metadata.get("environment", "")),
            str(about.get("id", source if isinstance(source, str) else "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OpsError(f"Stripe's {name} is not a balance transaction: {error!r}", CANNOT_RUN) from error


def _payment(kind: Kind, source: Mapping[str, Any]) -> str:
    payment = source.get("payment_intent")
    if isinstance(payment, Mapping):
        payment = payment.get("id")
    if payment:
        return str(payment)
    if kind is Kind.CHARGE:
        return str(source.get("id", ""))
    return str(source.get("charge") or "") if kind in {Kind.REFUND, Kind.REFUND_UNDONE, Kind.DISPUTE} else ""


def _minor(amount: Any, currency: str) -> int:
    above, below = CAPABILITIES[STRIPE].units.get(currency, (1, 1))
    return int(amount) * below // above
