"""Provider notifications: finds the provider's reader, and the parts that the readers share.

A notification is a claim that may arrive late, twice and out of order; the payment decider decides on it. A duplicate
yields the same outcome. A reader parses the bytes that it has verified. Error messages contain no secret.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, ProviderOutcome

from chassis.outside.call_errors import CallError, NotPossibleNow, NotYet
from chassis.outside.signatures import BadSignature, Headers, check_hmac, single_header
from services.payments.providers.port import Claim, Locates, Unaddressed

_OPERATIONS = {d.Operation.Name(one).removeprefix("OPERATION_").lower(): one for one in d.Operation.values() if one}


class UnknownProvider(Exception):
    """No such provider, or this process has no secret to verify its notifications with."""


class OtherEnvironment(Exception):
    """The notification is about an object of another deployment on the same account, or of the other mode."""


class LookUpFailed(Exception):
    """The provider could not be asked which order a notification is about. It has to be sent again."""


class NotUnderstood(Exception):
    """A genuine notification of unknown form. A retry can't help; an operator has to look at it."""


class WebhookReader(Protocol):
    """Verifies and parses the notifications of one provider."""

    def read(self, headers: Headers, body: bytes) -> Claim | Unaddressed | None:
        """The claim of a notification, unaddressed if it names the hold only; None if it concerns no payment of ours.

        Raises BadSignature, NotYet for a result that is not final, OtherEnvironment, NotUnderstood, and what parsing a
        malformed body raises.
        """
        ...


class Notifications:
    """Reads the notifications of all configured providers."""

    def __init__(
        self,
        readers: Mapping[str, WebhookReader],
        locators: Mapping[str, Locates] | None = None,
        environment: str = "",
    ) -> None:
        """`readers` and `locators` by the provider's name in the webhook path; `environment`: id of this deployment."""
        self._readers = readers
        self._locators = locators or {}
        self._environment = environment

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the providers whose notifications can be verified."""
        return tuple(self._readers)

    def verify_and_parse(self, provider: str, headers: Headers, body: bytes) -> Claim | Unaddressed | None:
        """Group and outcome of a notification; None if it concerns no payment of ours.

        `headers` in the order received, with repeated headers and names in any case. Raises BadSignature,
        UnknownProvider, OtherEnvironment, NotUnderstood.
        """
        reader = self._readers.get(provider)
        if reader is None:
            raise UnknownProvider(f"no notifications of {provider[:50]!r} are configured here")
        try:
            claim = reader.read(tuple(headers), body)
        except NotYet:
            return None
        except (NotPossibleNow, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            # The signature is valid, so this is no attack. Reconciliation finds the money.
            raise NotUnderstood(f"unreadable notification: {error!r}") from error
        return self._ours(claim) if isinstance(claim, tuple) and not isinstance(claim, Unaddressed) else claim

    async def address(self, provider: str, notification: Unaddressed, timeout_s: float) -> Claim | None:
        """The claim of a notification that names no order; the provider is asked for it. None if it is none of ours.

        Raises OtherEnvironment, LookUpFailed.
        """
        locator = self._locators.get(provider)
        if locator is None:
            raise LookUpFailed(f"{provider} can't be asked here which order a notification is about")
        try:
            claim = await locator.locate(notification, timeout_s)
        except CallError as error:
            raise LookUpFailed(f"{provider} can't be asked now: {error}") from error
        return None if claim is None else self._ours(claim)

    def _ours(self, claim: Claim) -> Claim:
        environment = claim[1].environment
        # An object without an environment may be older than the setting.
        if environment in ("", self._environment):
            return claim
        raise OtherEnvironment(f"of the deployment {environment[:50]!r}")


class HmacReader(ABC):
    """Base of the readers whose notifications are JSON, signed with HMAC-SHA256 under a shared secret."""

    #: Name of the header with the time and the signature.
    header: ClassVar[str]

    def __init__(self, secrets: Callable[[], Sequence[str]], now_s: Callable[[], float] = time.time) -> None:
        """`secrets` returns those that are valid now: two while they rotate."""
        self._secrets = secrets
        self._now_s = now_s

    def read(self, headers: Headers, body: bytes) -> Claim | Unaddressed | None:
        """See WebhookReader."""
        self._verify(single_header(headers, self.header), body)
        return self.claim_of(read_json(body))

    def _verify(self, header: str, body: bytes) -> None:
        failed = BadSignature("no secret is set")
        for secret in self._secrets():
            try:
                check_hmac(header, secret, body, self._now_s())
            except BadSignature as error:
                failed = error
            else:
                return
        raise failed

    @abstractmethod
    def claim_of(self, event: Any) -> Claim | Unaddressed | None:
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


def news() -> ProviderOutcome:
    """Outcome of something that the provider did by itself, its order and result unset."""
    return ProviderOutcome(origin=OUTCOME_ORIGIN_NOTIFICATION)


def notified_outcome(order: str, operation: d.Operation.ValueType, attempt: int) -> ProviderOutcome:
    """Outcome of a call as notified, result unset."""
    return ProviderOutcome(order=order, operation=operation, attempt=attempt, origin=OUTCOME_ORIGIN_NOTIFICATION)
