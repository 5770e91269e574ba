"""Reads the forms and queries of requests to Stripe's API."""

from __future__ import annotations

import re
import uuid
from typing import Any

from aiohttp import web

from simulators.psp.accounts.details import LIFE_SEPARATOR
from simulators.psp.stripe.currencies import MAX_AMOUNT, MINIMUMS, THREE_DECIMALS
from simulators.psp.stripe.objects import StripeError

_METADATA = re.compile(r"metadata\[([^\]]+)\]")
_CLAUSE = re.compile(r"""metadata\[(['"])([^'"]+)\1\]:(['"])([^'"]+)\3""")
MAX_PAGE = 100
#: Names of metadata that a search may begin with.
SEARCHABLE = ("key", "order")
#: Number of the life of a request's key, if it was used before and has expired.
KEY_LIFE = web.RequestKey("key_life", int)


def key_of(request: web.Request) -> str:
    """Key of a call in the account book: the header's, with the number of its life after it has expired."""
    key = request.headers.get("Idempotency-Key") or uuid.uuid4().hex
    life = request.get(KEY_LIFE, 0)
    return f"{key}{LIFE_SEPARATOR}{life}" if life else key


def metadata_of(form: Any) -> dict[str, str]:
    """Metadata of a form."""
    return {found[1]: str(form[name]) for name in form if (found := _METADATA.fullmatch(name))}


def given_metadata(form: Any, standard: dict[str, str]) -> dict[str, Any]:
    """The fields of a call that carry its metadata: none for the standard one."""
    metadata = metadata_of(form)
    if metadata == standard:
        return {}
    return {"metadata": metadata} if metadata else {"without_metadata": True}


def expands(given: Any, name: str = "latest_charge") -> bool:
    """Whether a request expands a field."""
    return name in [given[one] for one in given if one.startswith("expand")]


def amount_of(form: Any, name: str) -> int:
    """A positive amount of a form. Raises StripeError."""
    text = str(form.get(name, ""))
    if not text.isdecimal() or int(text) < 1:
        code = "parameter_invalid_integer"
        raise StripeError(400, "invalid_request_error", f"Invalid positive integer: {name}", code, param=name)
    return int(text)


def check_amount(amount_minor: int, currency: str, *, minimum: bool) -> None:
    """Raises StripeError for an amount that Stripe does not charge; `minimum`: nor one below its minimum."""
    if amount_minor > MAX_AMOUNT:
        raise StripeError(400, "invalid_request_error", "Amount must be no more than 99999999", "amount_too_large")
    if currency in THREE_DECIMALS and amount_minor % 10:
        raise StripeError(400, "invalid_request_error", "Amount must be divisible by 10", param="amount")
    least = MINIMUMS.get(currency, 0) if minimum else 0
    if amount_minor < least:
        message = f"Amount must be at least {least} {currency.lower()}"
        raise StripeError(400, "invalid_request_error", message, "amount_too_small", param="amount")


def search_clauses(query: str) -> dict[str, str]:
    """Names and values of a search over metadata, joined by AND. Raises StripeError."""
    clauses: dict[str, str] = {}
    for text in query.split(" AND "):
        found = _CLAUSE.fullmatch(text.strip())
        if found is None:
            raise StripeError(400, "invalid_request_error", "only metadata['…']:'…' is supported", param="query")
        clauses[found[2]] = found[4]
    if not any(name in clauses for name in SEARCHABLE):
        raise StripeError(400, "invalid_request_error", "name the key or the order", param="query")
    return clauses


def limit_of(request: web.Request) -> int:
    """Length of a page. Raises StripeError."""
    text = request.query.get("limit", "10")
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PAGE:
        raise StripeError(400, "invalid_request_error", "limit must be 1 to 100", param="limit")
    return int(text)


def created_of(request: web.Request) -> tuple[int, int]:
    """Bounds of `created` in milliseconds: the first one inclusive, the second exclusive; 0: none."""
    bounds = {name: _seconds(request, f"created[{name}]") for name in ("gt", "gte", "lt", "lte")}
    since_s = max(bounds["gte"], bounds["gt"] + 1 if bounds["gt"] else 0)
    until_s = bounds["lt"] or (bounds["lte"] + 1 if bounds["lte"] else 0)
    return since_s * 1000, until_s * 1000


def _seconds(request: web.Request, name: str) -> int:
    text = request.query.get(name, "0")
    if not text.isdecimal():
        raise StripeError(400, "invalid_request_error", f"Invalid timestamp: {name}", param=name)
    return int(text)
