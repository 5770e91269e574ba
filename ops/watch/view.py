"""The present view of watch: the sums of all workers, the progress of the consumer groups, and the problems."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ops.audit.findings import TITLES, Invariant
from ops.watch.folding.statement_check import Compared
from ops.watch.folding.totals import Totals, first_ms
from ops.watch.lag import Lags
from ops.watch.liveness import Problem
from ops.watch.worker import Progress


class View:
    """The newest reports."""

    def __init__(self, workers: int, roots: Path | None = None) -> None:
        """`roots` is the file of `ledger roots`, whose age is reported."""
        self._workers = workers
        self.roots = roots
        self._progress: dict[int, Progress] = {}
        #: The sums of each worker as of its last completed round.
        self._cuts: dict[int, Totals] = {}
        self.lags = Lags([], {})
        self.problems: list[Problem] = []
        #: Records by which the committed offsets of each group have advanced.
        self.advanced: dict[str, int] = {}

    def take(self, progress: Progress) -> None:
        """Takes the report of a worker."""
        self._progress[progress.worker] = progress
        if progress.totals is not None:
            self._cuts[progress.worker] = progress.totals

    @property
    def complete(self) -> bool:
        """Whether every worker has completed a round, so that the sums are those of all groups."""
        return len(self._cuts) == self._workers

    @property
    def behind(self) -> int:
        """Records that are not folded yet."""
        return sum(one.behind for one in self._progress.values())

    @property
    def folded(self) -> int:
        """Records that this run has folded."""
        return sum(one.folded for one in self._progress.values())

    @property
    def totals(self) -> Totals:
        """The sums of all workers."""
        found = Totals()
        for one in self._cuts.values():
            found.merge(one)
        return found

    @property
    def compared(self) -> list[Compared]:
        """The last comparison with each provider's statement, over all workers."""
        found: dict[str, Compared] = {}
        for one in self._progress.values():
            for result in one.compared:
                known = found.setdefault(result.provider, Compared(result.provider, result.at_ms))
                known.at_ms = min(known.at_ms, result.at_ms)
                known.differences += result.differences
                known.entries += result.entries
                known.left_out += result.left_out
                known.texts.extend(result.texts)
        return list(found.values())


def invariant_rows(totals: Totals) -> Iterable[tuple[int, str, int, str]]:
    """Number, title, count and first text of each violated invariant."""
    for number, count in totals.violations.items():
        yield number, TITLES[Invariant(number)], count, totals.first.get(number, "")


def figures(totals: Totals, compared: Iterable[Compared], now_ms: int) -> dict[str, Any]:
    """The figures as JSON."""
    oldest = first_ms(totals.unsettled)
    until = {provider: first_ms(minutes) for provider, minutes in totals.lapses.items()}
    return {
        "records": totals.records,
        "groups": dict(sorted(totals.groups.items())),
        "orders": dict(sorted(totals.orders.items())),
        "violations": sum(totals.violations.values()),
        "invariants": [
            {"invariant": number, "violations": count, "first": text}
            for number, _, count, text in invariant_rows(totals)
        ],
        "unbalanced": [
            {"currency": currency, "charged_minor": charged, "captured_minor": kept}
            for currency, charged, kept in totals.unbalanced()
        ],
        "pieces": {
            stock: {
                "total": pieces.total,
                "free": pieces.total - pieces.leased - pieces.sold,
                "leased": pieces.leased,
                "sold": pieces.sold,
            }
            for stock, pieces in sorted(totals.pieces.items())
        },
        "unequal_pieces": [
            {"stock": stock, "leased": one.leased, "in_groups": one.held, "sold": one.sold, "charged": one.charged}
            for stock, one in totals.unequal_pieces(now_ms)
        ],
        "money_minor": {
            currency: {
                "held": money.held,
                "captured": money.captured,
                "voided": money.voided,
                "lapsed": money.lapsed,
                "refunded": money.refunded,
                "suspense": money.suspense,
                "owed": money.owed,
            }
            for currency, money in sorted(totals.money.items())
        },
        "kept_prices": {
            campaign: {
                currency: {"groups": one.groups, "cost_minor": one.cost_minor}
                for currency, one in sorted(by_currency.items())
            }
            for campaign, by_currency in sorted(totals.kept_prices.items())
        },
        "open_holds": sum(count for minutes in totals.holds.values() for count, _ in minutes.values()),
        "unsettled_groups": sum(count for count, _ in totals.unsettled.values()),
        "oldest_unsettled_seconds": 0 if oldest is None else max(0, (now_ms - oldest) // 1000),
        "hold_lapses_in_seconds": {
            provider: math.floor((at_ms - now_ms) / 1000) for provider, at_ms in sorted(until.items()) if at_ms
        },
        "pending": totals.pending,
        "alarms": totals.alarms,
        "duplicates": totals.duplicates,
        "dead_letters": totals.dead_letters,
        "statements": [
            {"provider": one.provider, "entries": one.entries, "differences": one.differences, "left_out": one.left_out}
            for one in compared
        ],
    }
