"""Notifications of providers: verifies that one is the provider's, of these minutes and whole, and reads it.

A notification is a claim like any other: it may come late, twice and out of order, and the purse's decider decides what
it means. A repeat reads as the same outcome. The bytes that are read are those that were verified. No text holds a
secret.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, ProviderOutcome
from groupbuy.simprovider.v1 import simprovider_pb2 as sim

from services.payments.providers.port import NotPossibleNow, NotYet
from services.payments.providers.signatures import TOLERANCE_S, BadSignature, Headers, check_hmac, single
from services.payments.providers.simulator_client.adapter import tell
from services.payments.providers.stripe import mapping as stripe_words
from services.payments.providers.wechat import mapping as wechat_words
from services.payments.providers.wechat import references
from services.payments.providers.wechat.http_client import Account, BadSeal, check, opened

SIMULATED, STRIPE, WECHAT = "simulated", "stripe", "wechat"
STRIPE_HEADER, OWN_HEADER = "stripe-signature", "simprovider-signature"
_OPERATIONS = {d.Operation.Name(one).removeprefix("OPERATION_").lower(): one for one in d.Operation.values() if one}

Claim = tuple[str, ProviderOutcome]


__all__ = ["TOLERANCE_S", "BadSignature", "Claim", "NotUnderstood", "Notifications", "UnknownProvider"]


class UnknownProvider(Exception):
    """No such provider, or none that is configured here to notify."""


class NotUnderstood(Exception):
    """The provider's, and of a form that is not known here. Sending it again changes nothing; a person should look."""


class Notifications:
    """Reads notifications of every provider. Providers without a secret here are refused."""

    def __init__(
        self,
        *,
        stripe_secret: str = "",
        wechat: Account | None = None,
        simulated_secret: str = "",
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._stripe_secret = stripe_secret
        self._wechat = wechat
        self._simulated_secret = simulated_secret
        self._now_s = now_s
        self._readers: dict[str, Callable[[Headers, bytes], Claim | None]] = {
            SIMULATED: self._of_simulated,
            STRIPE: self._of_stripe,
            WECHAT: self._of_wechat,
        }

    def verify_and_parse(self, provider: str, headers: Headers, body: bytes) -> Claim | None:
        """Group and outcome that a notification tells of; None where no order of ours waits for it.

        `headers` as they came: one that comes twice must be seen twice. Their names may be of any case. Raises
        BadSignature, UnknownProvider, NotUnderstood.
        """
        reader = self._readers.get(provider)
        if reader is None:
            raise UnknownProvider(f"no provider {provider[:50]!r}")
        try:
            return reader(tuple(headers), body)
        except NotYet:
            return None
        except (NotPossibleNow, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            # Signed, so no attack. The money is found when books are compared.
            raise NotUnderstood(f"a notification that can't be read: {error!r}") from error

    # Stripe

    def _of_stripe(self, headers: Headers, body: bytes) -> Claim | None:
        self._check(headers, STRIPE_HEADER, self._stripe_secret, STRIPE, body)
        event = _read(body)
        return _stripe_claim(str(event["type"]), event["data"]["object"])

    # WeChat Pay

    def _of_wechat(self, headers: Headers, body: bytes) -> Claim | None:
        if self._wechat is None:
            raise UnknownProvider("notifications of wechat are not configured here")
        try:
            check(self._wechat, headers, body, self._now_s)
            event = _read(body)
            said = opened(self._wechat, event["resource"])
        except BadSeal as error:
            raise BadSignature(str(error)) from None
        return _wechat_claim(str(event["event_type"]), said)

    # The simulated provider

    def _of_simulated(self, headers: Headers, body: bytes) -> Claim | None:
        self._check(headers, OWN_HEADER, self._simulated_secret, SIMULATED, body)
        event = _read(body)
        outcome = _named(event["key"])
        if outcome is None:
            raise NotUnderstood(f"no call of ours is named {str(event['key'])[:80]!r}")
        result = sim.CallResult(
            key=event["key"],
            status=sim.Status.Value(event["status"]),
            **{name: event[name] for name in ("hold", "amount_minor", "currency", "capturable_until_ms")},
            **{name: event[name] for name in ("reason", "action_url")},
        )
        tell(outcome, result)
        return str(event["group"]), outcome

    def _check(self, headers: Headers, name: str, secret: str, provider: str, body: bytes) -> None:
        if not secret:
            raise UnknownProvider(f"notifications of {provider} are not configured here")
        check_hmac(single(headers, name), secret, body, self._now_s())


def _read(body: bytes) -> Any:
    # Providers write UTF-8. Without this the bytes themselves would choose among five encodings.
    return json.loads(body.decode("utf-8"))


def _named(key: str) -> ProviderOutcome | None:
    """An outcome of the call that a key names; None for a key that is none of ours."""
    order, _, rest = key.partition(":")
    operation, _, attempt = rest.partition(":")
    if not order or operation not in _OPERATIONS or not attempt.isdecimal():
        return None
    return _of(order, _OPERATIONS[operation], int(attempt))


def _of(order: str, operation: d.Operation.ValueType, attempt: int) -> ProviderOutcome:
    return ProviderOutcome(order=order, operation=operation, attempt=attempt, origin=OUTCOME_ORIGIN_NOTIFICATION)


def _stripe_claim(kind: str, said: Mapping[str, Any]) -> Claim | None:
    names = said.get("metadata") or {}
    outcome = _named(str(names.get(stripe_words.KEY, "")))
    group = str(names.get(stripe_words.GROUP, ""))
    if outcome is None or not group:
        # The account may serve others too. Not ours to touch.
        return None
    captured_by = _named(str(names.get(stripe_words.CAPTURE_KEY, "")))
    match kind:
        case "payment_intent.succeeded" if outcome.operation == d.OPERATION_AUTHORISE:
            # Without the name of a call somebody captured it by hand: still money that was taken.
            outcome = captured_by or _of(outcome.order, d.OPERATION_CAPTURE, 0)
            stripe_words.tell_captured(outcome, said)
        case "payment_intent.canceled":
            # A cancellation carries no name; attempt 0 is nobody's, so it counts as news.
            outcome = _of(outcome.order, d.OPERATION_VOID, 0)
            stripe_words.tell_over(outcome, said)
        case "refund.created" | "refund.updated" | "refund.failed":
            stripe_words.tell_refunded(outcome, said)
        case (
            "payment_intent.succeeded"
            | "payment_intent.amount_capturable_updated"
            | "payment_intent.requires_action"
            | "payment_intent.payment_failed"
        ):
            stripe_words.tell_held(outcome, said)
        case _:
            return None
    return group, outcome


def _wechat_claim(kind: str, said: Mapping[str, Any]) -> Claim | None:
    if kind.startswith("REFUND."):
        ref, operation = references.of_refund_number(str(said["out_refund_no"])), d.OPERATION_REFUND
    elif kind == "TRANSACTION.SUCCESS":
        ref, operation = references.of_attach(str(said.get("attach", ""))), d.OPERATION_SALE
    else:
        return None
    if ref is None:
        # None of ours, or of ids too long to be named: those are looked up.
        return None
    outcome = _of(ref.order, operation, ref.attempt)
    if operation == d.OPERATION_REFUND:
        wechat_words.tell_refund(outcome, said)
    elif said["trade_state"] in wechat_words.PAID:
        wechat_words.tell_paid(outcome, said)
    else:
        return None
    return ref.group, outcome
