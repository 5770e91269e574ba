"""When a deferred call is retried, and what else falls due.

Only the log's time decides, so every owner of a partition waits equally long."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain import owed, unexpected_funds
from services.payments.domain.next_steps import next_steps
from services.payments.domain.output import events, provider_events
from services.payments.domain.state.model import Call, GroupPayments, Intent, Payment
from services.payments.domain.state.provider_life import TimerKind

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
#: Polls, one a minute for about a day, after which a renewed hold that is not confirmed can't be captured. Under rules
#: version 2, an operator has to act on the request of a released order after them.
MAX_RENEWAL_POLLS = 1_440
#: Deferrals, about a day of them, after which a call is given up: an operator has to act. Not in rules version 1, nor
#: while the shopper confirms.
MAX_DEFERRALS = 300
#: Time before the end of a hold from which a deferred capture raises an alarm.
AT_RISK_MS = 6 * 3_600_000
#: The shortest pause after an error that only a change of the configuration ends.
NOT_POSSIBLE_PAUSE_MS = 300_000
#: Retries in one decision, which bounds its size; the rest are due at once.
RETRIES_BATCH = 500


def defer(
    order: str,
    call: Call,
    at_ms: int,
    error: str,
    *,
    retry_after_ms: int = 0,
    polling: bool = False,
    attempt: int = 0,
    alarm: bool = False,
) -> PaymentEvent:
    """Defers a call, under its own attempt unless another is given."""
    longest_ms = MAX_SHORT_PAUSE_MS if call.deferrals < SHORT_PAUSES else MAX_PAUSE_MS
    first_ms, longest_ms = (FIRST_POLL_MS, MAX_POLL_MS) if polling else (FIRST_PAUSE_MS, longest_ms)
    pause_ms = min(first_ms << min(call.deferrals, 20), longest_ms)
    asked_ms = min(retry_after_ms, MAX_RETRY_AFTER_MS)
    retry_at_ms = at_ms + max(pause_ms, asked_ms)
    return events.call_deferred(order, call, attempt or call.attempt, retry_at_ms, error, alarm=alarm)


def defer_or_give_up(
    payments: GroupPayments,
    order: str,
    payment: Payment,
    call: Call,
    at_ms: int,
    error: str,
    *,
    retry_after_ms: int = 0,
    polling: bool = False,
    alarm: bool = False,
) -> Iterator[PaymentEvent]:
    """Defers a call. Under rules version 2 retries have an end, and a late capture raises an alarm."""
    if payments.rules_version < 2:
        yield defer(order, call, at_ms, error, retry_after_ms=retry_after_ms, polling=polling, alarm=alarm)
        return
    if call.deferrals >= (_max_polls(payment) if polling else MAX_DEFERRALS):
        yield provider_events.call_given_up(order, call, error)
        return
    deferred = defer(order, call, at_ms, error, retry_after_ms=retry_after_ms, polling=polling, alarm=alarm)
    yield deferred
    hold = payment.holds.get(call.hold)
    if call.operation != pb.OPERATION_CAPTURE or hold is None or hold.at_risk or not hold.capture_before_ms:
        return
    if deferred.call_deferred.retry_at_ms >= hold.capture_before_ms - AT_RISK_MS:
        yield provider_events.capture_at_risk(order, call.hold, hold.capture_before_ms)


def _max_polls(payment: Payment) -> int:
    """The polls after which nobody is expected to confirm: a released order's void has failed for a day, too."""
    return MAX_RENEWAL_POLLS if payment.intent is Intent.RELEASE else sys.maxsize


def fire_due_timers(payments: GroupPayments, at_ms: int) -> Iterator[PaymentEvent]:
    """Requests the refunds of owed sums, the returns of suspense and the checks of holds that are due."""
    for _ in range(RETRIES_BATCH):
        if not payments.timers or payments.timers[0][0] > at_ms:
            return
        _, order, kind, name = payments.timers[0]
        payment = payments.payment(order)
        if payment is None:
            return
        if kind == TimerKind.OWED:
            yield from owed.request(order, payment, payment.debts[name])
        elif kind == TimerKind.CHECK:
            yield events.hold_check_requested(order, payment)
        else:
            yield unexpected_funds.request_return(order, payment, name)
        yield from next_steps(payments, order)


def retry_due_calls(payments: GroupPayments, at_ms: int) -> Iterator[PaymentEvent]:
    """Retries the calls that are due, each under its own attempt."""
    for _ in range(RETRIES_BATCH):
        due = payments.next_due(at_ms)
        if due is None:
            return
        order, payment, call = due
        yield events.call_retried(order, payment, call, call.attempt)
