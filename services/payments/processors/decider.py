"""The decider of payments: payment inbox in, payment decisions out."""

from __future__ import annotations

from eventlog.processors.base import Connection
from eventlog.processors.observed_decisions import DecisionObserver
from eventlog.records.codec import Codec
from services.payments.processors import codec
from services.payments.processors.issue_index import PaymentDecider, WatchedDomain
from shared_kernel import topics

#: Changes with the meaning or the layout of stored state, which is then folded anew from the log.
STATE_STAMP = "payments-6"


def payment_decider(connection: Connection, observer: DecisionObserver | None = None) -> PaymentDecider:
    """The decider, not started."""
    return PaymentDecider(
        topics.PAYMENTS_DECIDER,
        topics.PAYMENT_INBOX,
        topics.PAYMENT_LOG,
        WatchedDomain(),
        connection,
        Codec(STATE_STAMP, codec.encode, codec.decode),
        observer=observer,
    )
