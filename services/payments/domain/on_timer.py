"""When a deferred call is retried. Only the log's time decides, so every owner of a partition waits equally long."""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain import events
from services.payments.domain.model import Call, GroupPayments

#: Pauses double from the first. The first 20 pauses of a call, some eight minutes, are at most 30 s, so that an outage
#: of minutes is over within a minute of its end; later pauses are longer to keep the log small.
FIRST_PAUSE_MS = 1_000
SHORT_PAUSES, MAX_SHORT_PAUSE_MS = 20, 30_000
MAX_PAUSE_MS = 300_000
#: The same while the shopper confirms at the provider, where a retry is a poll.
FIRST_POLL_MS = 5_000
MAX_POLL_MS = 60_000
#: The longest pause that a provider can ask for.
MAX_RETRY_AFTER_MS = 86_400_000
#: Polls, one a minute for about a day, after which a renewed hold that is not confirmed can't be captured.
MAX_RENEWAL_POLLS = 1_440
#: Retries in one decision, which bounds its size; the rest are due at once.
RETRIES_BATCH = 500


def defer(
    order: str, call: Call, at_ms: int, error: str, *, retry_after_ms: int = 0, polling: bool = False, attempt: int = 0
) -> PaymentEvent:
    """Defers a call, under its own attempt unless another is given."""
    longest_ms = MAX_SHORT_PAUSE_MS if call.deferrals < SHORT_PAUSES else MAX_PAUSE_MS
    first_ms, longest_ms = (FIRST_POLL_MS, MAX_POLL_MS) if polling else (FIRST_PAUSE_MS, longest_ms)
    pause_ms = min(first_ms << min(call.deferrals, 20), longest_ms)
    asked_ms = min(retry_after_ms, MAX_RETRY_AFTER_MS)
    return events.call_deferred(order, call, attempt or call.attempt, at_ms + max(pause_ms, asked_ms), error)


def retry_due_calls(payments: GroupPayments, at_ms: int) -> Iterator[PaymentEvent]:
    """Retries the calls that are due, each under its own attempt."""
    for _ in range(RETRIES_BATCH):
        due = payments.next_due(at_ms)
        if due is None:
            return
        order, payment, call = due
        yield events.call_retried(order, payment, call, call.attempt)
