"""The problems of this moment for operators, each with its runbook. The alerts of Prometheus say the same over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from console.live.board import now_ms
from ops.watch.folding.summary import NEAR_LAPSE_MS
from ops.watch.folding.totals import Totals, first_ms
from ops.watch.view import View

RUNBOOKS = "https://github.com/groupbuy/groupbuy-settlement/blob/main/docs/runbooks"
#: Lag in seconds from which a partition is an alert.
ALERT_S = 30.0


class Alert(NamedTuple):
    """Something that an operator has to know."""

    text: str
    #: Name of a page of docs/runbooks.
    runbook: str

    @property
    def link(self) -> str:
        """Address of the runbook."""
        return f"{RUNBOOKS}/{self.runbook}.md"


def alerts(view: View, serving: Mapping[str, bool]) -> Iterator[Alert]:
    """All alerts. `serving` says for each service whether it answers."""
    for name, answers in sorted(serving.items()):
        if not answers:
            yield Alert(f"the {name} service does not answer", "GroupbuyServiceGone")
    yield from _readers(view)
    yield from _log(view.totals)
    yield from _money(view.totals)
    for one in view.compared:
        if one.differences:
            text = f"the statement of {one.provider} differs in {one.differences} entries"
            yield Alert(text, "GroupbuyReconciliationDiffers")


def _readers(view: View) -> Iterator[Alert]:
    for problem in view.problems:
        yield Alert(str(problem), "GroupbuyConsumerStuck" if problem.topic else "GroupbuyConsumerWithoutMember")
    for row in view.lags.rows:
        if (row.seconds or 0.0) > ALERT_S:
            text = f"{row.group} is {row.seconds:.0f} s behind in {row.topic} {row.partition}"
            yield Alert(text, "GroupbuyConsumerBehind")


def _log(totals: Totals) -> Iterator[Alert]:
    for _, violation in totals.unreadable:
        yield Alert(f"a record can't be read: {violation}", "GroupbuyPartitionQuarantined")
    for number, count in totals.violations.items():
        text = f"invariant {number} is violated {count} times: {totals.first.get(number, '')}"
        yield Alert(text, "GroupbuyBooksDiffer")
    if totals.dead_letters:
        yield Alert(f"{totals.dead_letters} dead letters", "GroupbuyDeadLetters")


def _money(totals: Totals) -> Iterator[Alert]:
    for currency, money in sorted(totals.money.items()):
        if money.suspense:
            yield Alert(f"unexpected funds in {currency} wait for their return", "GroupbuySuspense")
        if money.owed:
            yield Alert(f"refunds in {currency} are owed", "GroupbuyRefundsOwed")
    for provider, minutes in sorted(totals.lapses.items()):
        end_ms = first_ms(minutes)
        if end_ms is not None and end_ms - now_ms() < NEAR_LAPSE_MS:
            yield Alert(f"holds at {provider} lapse within six hours", "GroupbuyHoldsNearLapse")
