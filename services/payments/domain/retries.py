"""When a call that could not be settled is asked again. The log's time alone decides, so every owner waits as long."""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain import requests
from services.payments.domain.model import GroupPayments
from services.payments.domain.model_parts import Call

#: Pauses double from the first. For the first so many of a call, some eight minutes, none is longer than half a minute,
#: so that an outage of minutes is over within a minute of its end; later ones cost the log less.
FIRST_MS = 1_000
SOON, SOON_MS = 20, 30_000
MAX_MS = 300_000
#: The same while a shopper is at the provider's to confirm.
FIRST_LOOK_MS = 5_000
MAX_LOOK_MS = 60_000
#: A provider that asks to be left alone is asked again after this time all the same.
MAX_WISH_MS = 86_400_000
#: A renewed hold that still wants to be confirmed after so many looks, about a day, can't be captured.
RENEWAL_LOOKS = 1_440
#: Calls asked again in one decision, so that it stays small; the rest is due at once.
RETRIES_BATCH = 500


def put_off(
    order: str, call: Call, at_ms: int, error: str, *, after_ms: int = 0, looking: bool = False, attempt: int = 0
) -> PaymentEvent:
    """Puts a call off, under its own attempt unless another is named."""
    waits = FIRST_MS, SOON_MS if call.deferrals < SOON else MAX_MS
    first_ms, longest_ms = (FIRST_LOOK_MS, MAX_LOOK_MS) if looking else waits
    pause_ms = min(first_ms << min(call.deferrals, 20), longest_ms)
    wish_ms = min(after_ms, MAX_WISH_MS)
    return requests.call_deferred(order, call, attempt or call.attempt, at_ms + max(pause_ms, wish_ms), error)


def ask_again(purse: GroupPayments, at_ms: int) -> Iterator[PaymentEvent]:
    """Asks again for what has waited long enough."""
    for _ in range(RETRIES_BATCH):
        due = purse.next_due(at_ms)
        if due is None:
            return
        order, payment, call = due
        yield requests.call_retried(order, payment, call, call.attempt)
