"""NotifyPayment: appends a provider's notification to the payment inbox, and then acknowledges it.

gRPC and HTTP webhooks share this code. A genuine notification is never dropped (tests/unit/payments_api): one about a
payment that was never requested gets a derived order id, under which the decider records it and returns its money. A
duplicate is recognised after its signature was verified and is not appended again; if it comes too late to be
recognised, the decider ignores it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import grpc
import structlog
from groupbuy.errors.v1 import errors_pb2
from groupbuy.payments.v1.decisions_pb2 import OPERATION_AUTHORISE
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, PaymentInput, ProviderOutcome

from chassis.admission.rate_limit import LogThrottle, RateLimit
from chassis.outside.signatures import TOLERANCE_S, BadSignature
from chassis.rpc.errors import ApiError
from chassis.rpc.trace_context import TRACE
from chassis.rpc.validation import invalid_field
from eventlog.core.errors import NotReady
from eventlog.producing.publisher import RecordPublisher
from eventlog.producing.record_accumulator import Position, Record
from eventlog.records.envelope import headers
from eventlog.records.traceparent import HEADER
from services.payments.api import errors
from services.payments.api.idempotency import IdempotencyCache
from services.payments.api.names import PaymentName
from services.payments.api.ports import Notifications, Recorded
from services.payments.api.refund_payment import SOURCE
from services.payments.domain.addressing import address_of, hold_of
from services.payments.domain.first_version import is_news
from services.payments.domain.rules_version import CURRENT, FIRST
from services.payments.providers.notifications import LookUpFailed, NotUnderstood, OtherEnvironment, UnknownProvider
from services.payments.providers.port import Claim, Unaddressed
from shared_kernel.topics import PAYMENT_INBOX

log = structlog.stdlib.get_logger(__name__)

#: Record header with the body of a notification that could not be parsed.
BODY_HEADER = "groupbuy-notification"
#: Seconds for which one signature is valid: the tolerance before its time plus the tolerance after it.
SIGNATURE_LIFETIME_S = 2.0 * TOLERANCE_S
#: Notifications that are remembered for that long, about 20 MB.
MAX_REMEMBERED = 50_000
#: Log lines about bad signatures, which anybody can send.
BAD_SIGNATURE_LINES = RateLimit(1, 20)


class Ingested(NamedTuple):
    """The payment of a notification, and its position in the inbox."""

    payment: PaymentName
    position: Position


class WebhookIngest:
    """Verifies notifications and appends them to the inbox."""

    def __init__(
        self,
        notifications: Notifications,
        publisher: RecordPublisher,
        now_ms: Callable[[], int],
        count: Callable[[str, str], None] = lambda _provider, _result: None,
        rules_version: int = CURRENT,
        recorded: Recorded | None = None,
    ) -> None:
        """`count` receives the provider and the result of each notification: appended, ignored, refused, failed.
        `rules_version` is that of new groups; with the first, news are left for the provider to send again. `recorded`
        finds holds that earlier builds recorded under other ids; None: there are none."""
        self._rules_version = rules_version
        self._recorded = recorded
        self._count = count
        self._notifications = notifications
        self._publisher = publisher
        self._now_ms = now_ms
        self._appended: IdempotencyCache[Ingested] = IdempotencyCache(MAX_REMEMBERED, SIGNATURE_LIFETIME_S)
        self._throttle = LogThrottle(BAD_SIGNATURE_LINES)

    async def ingest(
        self, provider: str, received: Sequence[tuple[str, str]], body: bytes, timeout_s: float
    ) -> Ingested | None:
        """Appends a notification unless it is a duplicate; None: it is not about a payment of this deployment.

        `received` are the request's headers. Raises ApiError for a bad signature, for an unknown provider, and if the
        provider has to be asked for the order, or the ledger for the hold, and can't be; BrokerUnavailable.
        """
        result = "failed"
        try:
            ingested = await self._ingest(provider, received, body, timeout_s)
        except (LookUpFailed, NotReady, _TooEarly) as error:
            log.warning("notification not appended; the provider will send it again", provider=provider, why=str(error))
            raise _not_appended() from None
        except OtherEnvironment:
            result = "foreign"
            return None
        except ApiError:
            result = "refused"
            raise
        else:
            result = "ignored" if ingested is None else "appended"
            return ingested
        finally:
            self._count(provider, result)

    async def _ingest(
        self, provider: str, received: Sequence[tuple[str, str]], body: bytes, timeout_s: float
    ) -> Ingested | None:
        extra: dict[str, str] = {}
        problem = ""
        try:
            claim: Claim | Unaddressed | None = self._notifications.verify_and_parse(provider, received, body)
        except BadSignature as error:
            if (left_out := self._throttle.allow()) is not None:
                log.warning("notification with a bad signature", provider=provider, why=str(error), **left_out)
            raise errors.bad_signature(provider) from None
        except NotUnderstood as error:
            # It is genuine, so it may be about money. The inbox gets the whole body, and the decider raises an alarm.
            problem = str(error)
            claim = "", _unparsed(body)
            extra[BODY_HEADER] = body.decode(errors="replace")
        except UnknownProvider:
            raise invalid_field("provider", "sends no notifications here") from None
        if claim is None:
            return None
        if isinstance(claim, Unaddressed):
            claim = await self._notifications.address(provider, claim, timeout_s)
            if claim is None:
                return None
        group, claimed = claim
        if self._rules_version == FIRST and is_news(claimed):
            raise _TooEarly("an older process, which does not know this kind, is not replaced yet")

        async def append() -> Ingested:
            if problem:
                log.error("notification could not be parsed", provider=provider, why=problem)
            payment, outcome = await self._addressed(provider, group, claimed, timeout_s)
            return Ingested(payment, await self._append(payment, outcome, extra, timeout_s))

        key = sha256(f"{provider}\n".encode() + body).digest()
        return await self._appended.once(key, append, timeout_s)

    async def _addressed(
        self, provider: str, group: str, outcome: ProviderOutcome, timeout_s: float
    ) -> tuple[PaymentName, ProviderOutcome]:
        """The payment of an outcome. Ids that are not ours are replaced by derived ones: those under which an earlier
        build recorded the hold, or those of this build. Raises NotReady."""
        made = ProviderOutcome()
        made.CopyFrom(outcome)
        if not made.payment_method:
            made.payment_method = f"{provider}_"
        found = address_of(provider, group, outcome)
        hold = hold_of(outcome)
        if hold and self._recorded is not None and found != (group, outcome.order):
            found = await self._recorded.find(provider, group, outcome.order, hold, timeout_s) or found
        # The foreign ids stay out of the log: they are texts that others wrote.
        if found.order != made.order:
            made.order = found.order
            log.warning("notification of an unknown order", provider=provider, order=found.order)
        if found.group != group:
            log.warning("notification of an unknown group", provider=provider, group=found.group, order=found.order)
        return PaymentName(*found), made

    async def _append(
        self, payment: PaymentName, outcome: ProviderOutcome, extra: Mapping[str, str], timeout_s: float
    ) -> Position:
        kind = f"{outcome.operation}:{outcome.attempt}:{outcome.WhichOneof('result')}"
        trace = TRACE.get()
        if trace is not None:
            # Without a caller's trace, a reader of the log finds the trace by the call that the outcome is about.
            extra = {**extra, HEADER: str(trace)}
        made = headers(
            f"{payment.order}:{kind}:notified",
            ProviderOutcome.DESCRIPTOR.full_name,
            SOURCE,
            self._now_ms(),
            str(payment),
            extra,
        )
        value = PaymentInput(outcome=outcome, rules_version=self._rules_version).SerializeToString()
        record = Record(payment.group, value, made)
        return await self._publisher.publish(PAYMENT_INBOX.name, record, timeout_s=timeout_s)


class _TooEarly(Exception):
    """A notification of a kind that a running process of an older build can't read."""


def _not_appended() -> ApiError:
    """The order of a notification is not known, or its kind is not to be written yet; it has to be sent again."""
    problem = "the notification can't be taken now; send it again"
    return ApiError(grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_NOT_READY, problem)


def _unparsed(body: bytes) -> ProviderOutcome:
    """An outcome for a notification that could not be parsed: no money moved, but the decider raises an alarm."""
    outcome = ProviderOutcome(operation=OPERATION_AUTHORISE, origin=OUTCOME_ORIGIN_NOTIFICATION)
    outcome.declined.reason = f"a notification that was not understood, SHA-256 {sha256(body).hexdigest()}"
    return outcome
