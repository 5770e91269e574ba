"""The decider of payments: payment inbox in, payment decisions out."""

from __future__ import annotations

from eventlog.processors.base import Connection
from eventlog.processors.decider import Decider
from eventlog.processors.observed_decisions import DecisionObserver
from eventlog.records.codec import Codec
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.model import GroupPayments
from services.payments.processors import codec
from shared_kernel import topics

#: Changes with the meaning or the layout of stored state, which is then folded anew from the log.
STATE_STAMP = "payments-3"


def payment_decider(connection: Connection, observer: DecisionObserver | None = None) -> Decider[GroupPayments]:
    """The decider, not started."""
    return Decider(
        topics.PAYMENTS_DECIDER,
        topics.PAYMENT_INBOX,
        topics.PAYMENT_LOG,
        GroupPaymentsDomain(),
        connection,
        Codec(STATE_STAMP, codec.encode, codec.decode),
        observer=observer,
    )
