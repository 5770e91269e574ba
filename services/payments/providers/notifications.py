"""Provider notifications: finds the provider's reader, and the parts that the readers share.

A notification is a claim that may arrive late, twice and out of order; the payment decider decides on it. A duplicate
yields the same outcome. A reader parses the bytes that it has verified. Error messages contain no secret.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeAlias

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, ProviderOutcome

from chassis.outside.call_errors import NotPossibleNow, NotYet
from chassis.outside.signatures import Headers, check_hmac, single_header

#: Group id and outcome.
Claim: TypeAlias = tuple[str, ProviderOutcome]

_OPERATIONS = {d.Operation.Name(one).removeprefix("OPERATION_").lower(): one for one in d.Operation.values() if one}


class UnknownProvider(Exception):
    """No such provider, or this process has no secret to verify its notifications with."""


class NotUnderstood(Exception):
    """A genuine notification of unknown form. A retry can't help; an operator has to look at it."""


class WebhookReader(Protocol):
    """Verifies and parses the notifications of one provider."""

    def read(self, headers: Headers, body: bytes) -> Claim | None:
        """The claim of a notification; None if it concerns no payment of ours.

        Raises BadSignature, NotYet for a result that is not final, NotUnderstood, and what parsing a malformed body
        raises.
        """
        ...


class Notifications:
    """Reads the notifications of all configured providers."""

    def __init__(self, readers: Mapping[str, WebhookReader]) -> None:
        """`readers` by the provider's name in the webhook path."""
        self._readers = readers

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the providers whose notifications can be verified."""
        return tuple(self._readers)

    def verify_and_parse(self, provider: str, headers: Headers, body: bytes) -> Claim | None:
        """Group and outcome of a notification; None if it concerns no payment of ours.

        `headers` in the order received, with repeated headers and names in any case. Raises BadSignature,
        UnknownProvider, NotUnderstood.
        """
        reader = self._readers.get(provider)
        if reader is None:
            raise UnknownProvider(f"no notifications of {provider[:50]!r} are configured here")
        try:
            return reader.read(tuple(headers), body)
        except NotYet:
            return None
        except (NotPossibleNow, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            # The signature is valid, so this is no attack. Reconciliation finds the money.
            raise NotUnderstood(f"unreadable notification: {error!r}") from error


class HmacReader(ABC):
    """Base of the readers whose notifications are JSON, signed with HMAC-SHA256 under a shared secret."""

    #: Name of the header with the time and the signature.
    header: ClassVar[str]

    def __init__(self, secret: str, now_s: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._now_s = now_s

    def read(self, headers: Headers, body: bytes) -> Claim | None:
        """See WebhookReader."""
        check_hmac(single_header(headers, self.header), self._secret, body, self._now_s())
        return self.claim_of(read_json(body))

    @abstractmethod
    def claim_of(self, event: Any) -> Claim | None:
        """The claim of a verified event. Raises as WebhookReader.read does."""


def read_json(body: bytes) -> Any:
    """The JSON of a body in UTF-8. Raises ValueError."""
    # json.loads(bytes) would guess one of five encodings from the bytes.
    return json.loads(body.decode("utf-8"))


def outcome_of_key(key: str) -> ProviderOutcome | None:
    """Outcome of the call with an idempotency key, result unset; None for a key of another form."""
    order, _, rest = key.partition(":")
    operation, _, attempt = rest.partition(":")
    if not order or operation not in _OPERATIONS or not attempt.isdecimal():
        return None
    return notified_outcome(order, _OPERATIONS[operation], int(attempt))


def notified_outcome(order: str, operation: d.Operation.ValueType, attempt: int) -> ProviderOutcome:
    """Outcome of a call as notified, result unset."""
    return ProviderOutcome(order=order, operation=operation, attempt=attempt, origin=OUTCOME_ORIGIN_NOTIFICATION)
