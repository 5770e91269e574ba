"""The metrics of watch, built from its view at each scrape."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from chassis.telemetry.metrics import metrics_of_watch as names
from chassis.telemetry.metrics.metric_families import family
from eventlog.runtime.wall_clock import wall_clock_ms
from ops.audit.findings import Invariant
from ops.watch.folding.totals import KeptPrice, Totals, first_ms, older
from ops.watch.lag import OPTIONAL, READERS
from ops.watch.view import View

log = logging.getLogger(__name__)

#: Ends of groups, and the flows of money; each has a series from the start, so that rates are right.
_GROUP_ENDS = ("settled", "expired", "cancelled")
_ORDER_ENDS = ("settled", "refused", "cancelled", "expired", "failed", "released")
#: Invariants that another command checks, or that need a list of acknowledged orders.
_NOT_CHECKED = {Invariant.REPLAY, Invariant.ACKNOWLEDGED_IS_LOGGED}


class WatchCollector(Collector):
    """Reads the view when it is scraped. Sums appear once the first round is complete."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Family]:
        """All metrics."""
        yield from self._groups()
        view = self._view
        yield family(names.WATCH_BEHIND, view.behind)
        yield family(names.WATCH_POSITION, view.folded)
        if view.complete:
            totals, now_ms = view.totals, wall_clock_ms()
            yield from _outcomes(totals)
            yield from _open_work(totals, now_ms)
            yield from self._checks(totals)
        if view.roots is not None:
            try:
                yield family(names.LEDGER_ROOT, view.roots.stat().st_mtime)
            except OSError as error:
                log.warning("%s can't be read: %s", view.roots, error)

    def _groups(self) -> Iterator[Family]:
        lags = self._view.lags
        records: dict[tuple[str, ...], float] = {}
        seconds: dict[tuple[str, ...], float] = {}
        for row in lags.rows:
            labels = row.group, row.topic
            records[labels] = records.get(labels, 0) + row.records
            seconds[labels] = max(seconds.get(labels, 0.0), row.seconds or 0.0)
        yield family(names.WATCH_LAG_RECORDS, records)
        yield family(names.WATCH_LAG_SECONDS, seconds)
        advanced = dict.fromkeys(READERS.keys() - OPTIONAL, 0) | self._view.advanced
        yield family(names.WATCH_COMMITTED, {(one,): count for one, count in sorted(advanced.items())})
        yield family(names.WATCH_MEMBERS, {(one,): count for one, count in lags.members.items()})

    def _checks(self, totals: Totals) -> Iterator[Family]:
        found = totals.violations
        balanced = sum(1 for _ in totals.unbalanced())
        compared = self._view.compared
        books = sum(one.differences for one in compared)
        counts = {one: found.get(one, 0) for one in Invariant if one not in _NOT_CHECKED}
        counts[Invariant.BALANCED] += balanced
        counts[Invariant.PIECES] += sum(1 for _ in totals.unequal_pieces(wall_clock_ms()))
        counts[Invariant.BOOKS_EQUAL] += books
        yield family(names.AUDIT_DIFFERENCES, {(str(int(one)),): count for one, count in counts.items()})
        yield family(names.RECONCILE_DIFFERENCES, {(one.provider,): one.differences for one in compared})
        yield family(names.RECONCILE_SUCCESS, {(one.provider,): one.at_ms / 1000 for one in compared})


def _outcomes(totals: Totals) -> Iterator[Family]:
    yield family(names.ORDERS, {(end,): totals.orders.get(end, 0) for end in _ORDER_ENDS})
    yield family(names.GROUPS, {(end,): totals.groups.get(end, 0) for end in _GROUP_ENDS})
    flows: dict[tuple[str, ...], float] = {}
    for currency, money in sorted(totals.money.items()):
        flows["held", currency] = money.held
        flows["captured", currency] = money.captured
        flows["voided", currency] = money.voided
        flows["lapsed", currency] = money.lapsed
        flows["refunded", currency] = money.refunded
    yield family(names.MONEY, flows)
    kept = totals.kept_prices_by_currency()
    kept_prices = {(currency,): kept.get(currency, KeptPrice()) for currency in sorted({*totals.money, *kept})}
    yield family(names.KEPT_PRICE_GROUPS, {labels: one.groups for labels, one in kept_prices.items()})
    yield family(names.KEPT_PRICE_COST, {labels: one.cost_minor for labels, one in kept_prices.items()})


def _open_work(totals: Totals, now_ms: int) -> Iterator[Family]:
    counts: dict[tuple[str, ...], float] = {}
    amounts: dict[tuple[str, ...], float] = {}
    for currency in sorted(totals.money):
        for age, (count, minor) in older(totals.holds.get(currency, {}), now_ms).items():
            counts[age, currency] = count
            amounts[age, currency] = minor
    yield family(names.OPEN_HOLDS, counts)
    yield family(names.OPEN_HOLDS_MINOR, amounts)
    lapses = {(provider,): first_ms(minutes) for provider, minutes in totals.lapses.items()}
    yield family(
        names.HOLD_LAPSES, {labels: (at_ms - now_ms) / 1000 for labels, at_ms in lapses.items() if at_ms is not None}
    )
    oldest = first_ms(totals.unsettled)
    yield family(names.UNSETTLED_GROUPS, sum(count for count, _ in totals.unsettled.values()))
    yield family(names.OLDEST_UNSETTLED, 0.0 if oldest is None else max(0.0, (now_ms - oldest) / 1000))
    yield family(names.SUSPENSE, {(currency,): money.suspense for currency, money in sorted(totals.money.items())})
    yield family(names.OWED, {(currency,): money.owed for currency, money in sorted(totals.money.items())})
