"""Counts provider calls and notifications: plain numbers, read at a scrape on another thread."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping

import structlog
from groupbuy.payments.v1.decisions_pb2 import Operation, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from prometheus_client.core import Metric as Family

from chassis.telemetry.metrics import metrics_of_services as m
from chassis.telemetry.metrics.metric_families import Labels, family, histogram_family
from eventlog.runtime.counters import Histogram
from services.payments.providers.unconfigured import UNKNOWN_PROVIDER

log = structlog.stdlib.get_logger(__name__)

#: The result of a call, by the outcome's field. A result that fits its operation is `done`.
RESULTS = {
    "authorised": "done",
    "captured": "done",
    "voided": "done",
    "refunded": "done",
    "action_required": "action_required",
    "declined": "declined",
    "hold_gone": "hold_gone",
    "absent": "absent",
    "retry_later": "retry_later",
    "not_possible": "not_possible",
    # News of the provider; no call has them as its result.
    "refund_reversed": "news",
    "dispute": "news",
    "fraud_warning": "news",
    "external": "news",
    "fee": "news",
    "paid_out": "news",
}
#: The result of a call that ended without an outcome.
RAISED = "raised"
#: Outcomes of a notification.
NOTIFICATION_RESULTS = ("appended", "ignored", "foreign", "refused", "failed")


class ProviderMeter:
    """The calls to the providers of a process."""

    def __init__(self, names: Collection[str], name_of: Callable[[str], str]) -> None:
        """`names` are those of all providers; `name_of` finds a payment method's."""
        self._name_of = name_of
        self._in_flight = dict.fromkeys(names, 0)
        self._seconds = {name: Histogram(m.PROVIDER_SECONDS.buckets) for name in names}
        #: Holds that end before they are needed, and outcomes in another currency than asked for.
        self._short_holds: dict[Labels, float] = {(name,): 0 for name in names}
        self._wrong_currency: dict[Labels, float] = {(name,): 0 for name in names}
        #: By provider, operation and result; by provider and operation.
        self._calls: dict[Labels, float] = {}
        self._operation_s: dict[Labels, float] = {}

    async def measure(self, call: ProviderCall, outcome: Awaitable[ProviderOutcome]) -> ProviderOutcome:
        """Waits for the outcome of a call, and counts it."""
        provider, operation = self._name_of(call.payment_method), _operation(call)
        if provider not in self._in_flight:
            # A payment method without a provider: rare, so it has no series until then.
            self._in_flight[provider], self._seconds[provider] = 0, Histogram(m.PROVIDER_SECONDS.buckets)
        self._in_flight[provider] += 1
        began, result = time.perf_counter(), RAISED
        try:
            found = await outcome
            result = RESULTS.get(found.WhichOneof("result") or "", RAISED)
            self._check(provider, call, found)
            return found
        finally:
            seconds = time.perf_counter() - began
            self._in_flight[provider] -= 1
            self._seconds[provider].observe(seconds)
            ended = provider, operation, result
            self._calls[ended] = self._calls.get(ended, 0) + 1
            self._operation_s[ended[:2]] = self._operation_s.get(ended[:2], 0.0) + seconds

    def _check(self, provider: str, call: ProviderCall, found: ProviderOutcome) -> None:
        """Counts and logs results that need a person: the money is safe, but something is not as configured."""
        kind = found.WhichOneof("result") or ""
        until_ms = found.authorised.capturable_until_ms if kind == "authorised" else 0
        if 0 < until_ms < call.hold_until_ms:
            self._short_holds[(provider,)] = self._short_holds.get((provider,), 0) + 1
            log.warning(
                "a hold ends before it is needed",
                provider=provider,
                order=call.order,
                capturable_until_ms=until_ms,
                hold_until_ms=call.hold_until_ms,
            )
        currency = getattr(getattr(found, kind, None), "currency", "")
        if currency and call.currency and currency != call.currency:
            self._wrong_currency[(provider,)] = self._wrong_currency.get((provider,), 0) + 1
            log.error(
                "the provider reports another currency",
                provider=provider,
                order=call.order,
                asked=call.currency,
                reported=currency,
            )

    def metrics(self, available: Callable[[], Mapping[str, bool]]) -> Callable[[], Iterator[Family]]:
        """The collector of the calls. `available` says of each provider whether its circuit breaker is closed."""

        def collect() -> Iterator[Family]:
            yield family(m.PROVIDER_CALLS, self._calls.copy())
            yield histogram_family(m.PROVIDER_SECONDS, {(name,): one for name, one in self._seconds.copy().items()})
            yield family(m.PROVIDER_OPERATION_SECONDS, self._operation_s.copy())
            yield family(m.PROVIDER_IN_FLIGHT, {(name,): count for name, count in self._in_flight.copy().items()})
            yield family(m.PROVIDER_SHORT_HOLDS, self._short_holds.copy())
            yield family(m.PROVIDER_WRONG_CURRENCY, self._wrong_currency.copy())
            yield family(m.PROVIDER_CIRCUIT_OPEN, {(name,): not closed for name, closed in available().items()})

        return collect


class NotificationMeter:
    """The notifications of providers, over HTTP and gRPC."""

    def __init__(self, providers: Collection[str]) -> None:
        """`providers` are those whose notifications can be verified."""
        names = (*providers, UNKNOWN_PROVIDER)
        self._counts: dict[Labels, float] = {(name, result): 0 for name in names for result in NOTIFICATION_RESULTS}

    def count(self, provider: str, result: str) -> None:
        """Counts a notification. Anybody can send one in any name."""
        name = provider if (provider, result) in self._counts else UNKNOWN_PROVIDER
        self._counts[name, result] += 1

    def metrics(self) -> Iterator[Family]:
        """The samples of the notifications."""
        yield family(m.WEBHOOKS, self._counts.copy())


def _operation(call: ProviderCall) -> str:
    return Operation.Name(call.operation).removeprefix("OPERATION_").lower()
