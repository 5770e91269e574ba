"""NotifyPayment: a provider's notification is appended to the payment inbox, and only then acknowledged.

The same way for gRPC and for webhooks over HTTP. A genuine notification is never dropped (tests/unit/payments_api): one
that no call of ours asked for gets a purse of its own, where the decider records it and sends its money back. A repeat
is recognised after its signature was verified, and is not appended again; one that came too late for that changes
nothing in the decider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import structlog
from groupbuy.payments.v1.decisions_pb2 import OPERATION_AUTHORISE
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, PaymentInput, ProviderOutcome

from chassis.admission.rate_limit import Limit, Sparingly
from eventlog.producing.publisher import Publishes
from eventlog.producing.record_accumulator import Position, Record
from eventlog.records.envelope import headers
from services.payments.api import errors as refusals
from services.payments.api.idempotency import Repeats
from services.payments.api.names import PaymentName, is_id, of_nobody
from services.payments.api.ports import Notifications
from services.payments.api.refund_payment import SOURCE
from services.payments.providers.notifications import TOLERANCE_S, BadSignature, NotUnderstood, UnknownProvider
from shared_kernel.topics import PAYMENT_INBOX

log = structlog.stdlib.get_logger(__name__)

#: Record header with the body of a notification that was not understood.
BODY = "groupbuy-notification"
#: Seconds that a notification can be repeated with one signature: from the tolerance before its time to that after it.
REPEATABLE_S = 2.0 * TOLERANCE_S
#: Notifications that are remembered for as long: about 20 MB.
MAX_REMEMBERED = 50_000
#: Lines about notifications that are not genuine: anybody can send one.
LINES = Limit(1, 20)


class Noted(NamedTuple):
    """Under which payment a notification stands, and where."""

    payment: PaymentName
    position: Position


class WebhookIngest:
    """The way of a notification into the log."""

    def __init__(self, notifications: Notifications, publisher: Publishes, now_ms: Callable[[], int]) -> None:
        self._notifications = notifications
        self._publisher = publisher
        self._now_ms = now_ms
        self._repeats: Repeats[Noted] = Repeats(MAX_REMEMBERED, REPEATABLE_S)
        self._lines = Sparingly(LINES)

    async def take(
        self, provider: str, found: Sequence[tuple[str, str]], body: bytes, timeout_s: float
    ) -> Noted | None:
        """Appends it, or finds where it was appended; None where it is of no concern to a payment.

        `found` are its headers as they came. Raises ApiError for a wrong signature and an unknown provider, and
        BrokerUnavailable.
        """
        extra: dict[str, str] = {}
        riddle = ""
        try:
            claim = self._notifications.verify_and_parse(provider, found, body)
        except BadSignature as error:
            if (more := self._lines.let()) is not None:
                log.warning("a notification was not genuine", provider=provider, why=str(error), **more)
            raise refusals.bad_signature(provider) from None
        except NotUnderstood as error:
            # Genuine, so it may be about money: it is kept whole, and reported by the decider.
            riddle = str(error)
            claim = "", _riddle(body)
            extra[BODY] = body.decode(errors="replace")
        except UnknownProvider:
            raise refusals.invalid_field("provider", "sends no notifications here") from None
        if claim is None:
            return None
        group, said = claim

        async def append() -> Noted:
            if riddle:
                log.error("a notification was not understood", provider=provider, why=riddle)
            payment, outcome = self._addressed(provider, group, said)
            return Noted(payment, await self._append(payment, outcome, extra, timeout_s))

        key = sha256(f"{provider}\n".encode() + body).digest()
        return await self._repeats.once(key, append, timeout_s)

    def _addressed(self, provider: str, group: str, outcome: ProviderOutcome) -> tuple[PaymentName, ProviderOutcome]:
        """Whose payment it is. Without names of ours, names that are the same for every repeat."""
        made = ProviderOutcome()
        made.CopyFrom(outcome)
        if not made.payment_method:
            made.payment_method = f"{provider}_"
        kind = made.WhichOneof("result") or ""
        # Money is told apart by its hold, all else by what was said.
        what = getattr(getattr(made, kind, None), "hold", "") or sha256(outcome.SerializeToString()).hexdigest()
        if not is_id(made.order):
            log.warning("a notification of an unknown order", provider=provider, said=made.order[:100])
            made.order = of_nobody(provider, made.order, what)
        if not is_id(group):
            log.warning("a notification of an unknown group", provider=provider, said=group[:100], order=made.order)
            group = of_nobody(provider, made.order)
        return PaymentName(group, made.order), made

    async def _append(
        self, payment: PaymentName, outcome: ProviderOutcome, extra: Mapping[str, str], timeout_s: float
    ) -> Position:
        kind = f"{outcome.operation}:{outcome.attempt}:{outcome.WhichOneof('result')}"
        made = headers(
            f"{payment.order}:{kind}:notified",
            ProviderOutcome.DESCRIPTOR.full_name,
            SOURCE,
            self._now_ms(),
            str(payment),
            extra,
        )
        record = Record(payment.group, PaymentInput(outcome=outcome).SerializeToString(), made)
        return await self._publisher.publish(PAYMENT_INBOX.name, record, timeout_s=timeout_s)


def _riddle(body: bytes) -> ProviderOutcome:
    """The claim of a notification that nobody could read: nothing moved, and a person should look."""
    outcome = ProviderOutcome(operation=OPERATION_AUTHORISE, origin=OUTCOME_ORIGIN_NOTIFICATION)
    outcome.declined.reason = f"a notification that was not understood, SHA-256 {sha256(body).hexdigest()}"
    return outcome
