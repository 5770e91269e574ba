"""Folds the records of all topics into one case per group in memory, and reports which invariants hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.audit.across import AcrossLogs
from ops.audit.cases import Case
from ops.audit.causes import Causes
from ops.audit.findings import Findings, Invariant
from ops.audit.fold import LogFold, Place, Record
from ops.audit.group.membership import GroupState
from ops.audit.money.statement import EVERYTHING, Coverage, Totals, check_payouts, compare, holds_of
from ops.audit.report import Report
from ops.audit.stock.across import AcrossStock
from ops.audit.stock.folds import InMemoryFolds
from ops.statements.payouts import Payouts


class Auditor:
    """An independent check of all logs."""

    def __init__(
        self,
        partitions: int | None = None,
        skipped: Collection[Place] = frozenset(),
        *,
        with_inputs: bool = False,
        findings: Findings | None = None,
    ) -> None:
        """`partitions` and `skipped`: see LogFold.

        `with_inputs`: the inbox of the groups is read, too, and decisions are compared with it. `findings` receives
        what records show as they are taken.
        """
        self._cases: dict[str, Case] = {}
        self._findings = findings if findings is not None else Findings()
        self.pieces = InMemoryFolds(self._findings)
        causes = Causes() if with_inputs else None
        self._fold = LogFold(self._case, self._findings, partitions, skipped, causes, self.pieces)

    def begins_at(self, topic: str, partition: int, offset: int) -> None:
        """Sets the first offset of a partition. It is greater than 0 if the log was trimmed."""
        self._fold.begins_at(topic, partition, offset)

    def take(self, topic: str, records: Iterable[Record]) -> None:
        """Takes records of one partition."""
        self._fold.take(topic, records)

    def _case(self, key: str) -> Case:
        case = self._cases.get(key)
        if case is None:
            case = self._cases[key] = Case(key, self._findings)
        return case

    @property
    def cases(self) -> Mapping[str, Case]:
        """The cases by group."""
        return self._cases

    def check_orders(self, group: str, orders: Iterable[str]) -> None:
        """Compares the logs about some orders now. The records have to come in the order in which they were written."""
        scope = replace(self._fold.scope(settled=False), causal=True)
        AcrossLogs(self._case(group), scope, self._findings).check_orders(orders)

    def pending(self) -> list[str]:
        """A sample of the pending work; empty if everything is settled."""
        findings = Findings()
        for case in self._cases.values():
            AcrossLogs(case, self._fold.scope(settled=False), findings).check()
        self.check_pieces(findings, settled=False)
        return findings.pending

    def check_pieces(self, findings: Findings, *, settled: bool) -> None:
        """Compares the logs of groups, stock items and allowances."""
        pieces = self.pieces
        AcrossStock(self._cases, pieces.stocks, pieces.allowances, findings, settled=settled).check()

    def report(
        self,
        *,
        settled: bool,
        entries: Collection[StatementEntry] | None = None,
        acknowledged: Iterable[tuple[str, str]] = (),
        coverage: Coverage = EVERYTHING,
        payouts: Payouts | None = None,
    ) -> Report:
        """The report on all records so far. May be called again after more records.

        `entries` is the provider's statement, requested after the records were read; None omits the comparison.
        `coverage` says what it lists, and `payouts` has its payouts, if it lists them. `acknowledged` are the (group,
        order) pairs whose placement was acknowledged to a client.
        """
        findings = self._findings.copy()
        for one in self._fold.unreadable.values():
            findings.breach(one.invariant, one.group, one.order, one.what)
        if waiting := self._fold.waiting():
            what = f"{waiting} decisions are caused by inputs that are not in the inbox"
            findings.breach(Invariant.FOLLOWS_INPUT, "", "", what)
        cases = self._cases
        for case in cases.values():
            AcrossLogs(case, self._fold.scope(settled=settled), findings).check()
        self.check_pieces(findings, settled=settled)
        acknowledged = list(acknowledged)
        for group, order in acknowledged:
            if group not in cases or order not in cases[group].placed:
                findings.breach(Invariant.ACKNOWLEDGED_IS_LOGGED, group, order, "acknowledged, but not in the log")
        if entries is not None:
            compare(cases.values(), entries, settled, findings, coverage)
        if payouts is not None:
            check_payouts(cases.values(), payouts, settled, findings)
        money, holds, open_holds = self._money()
        if settled:
            self._check_balance(money, findings)
        return Report(
            findings=findings,
            settled=settled,
            books_compared=entries is not None,
            acknowledged=len(acknowledged),
            groups=Counter(case.group.state for case in cases.values() if case.group.state is not GroupState.NONE),
            orders=Counter(
                seat.state
                for case in cases.values()
                for order, seat in case.group.seats.items()
                if order in case.placed
            ),
            placed=sum(len(case.placed) for case in cases.values()),
            repeats=sum(placed.duplicates for case in cases.values() for placed in case.placed.values()),
            holds=holds,
            open_holds=open_holds,
            money=money,
            duplicates=self._fold.duplicates,
            dead_letters=self._fold.dead_letters,
            records=self._fold.records,
        )

    def _money(self) -> tuple[dict[str, Totals], int, int]:
        money: dict[str, Totals] = {}
        holds = open_holds = 0
        for _case, _payment, _reference, hold in holds_of(self._cases.values()):
            holds += 1
            open_holds += hold.open > 0
            totals = money.setdefault(hold.currency, Totals())
            totals.add(hold.held, hold.captured, hold.released, hold.refunded)
        return money, holds, open_holds

    def _check_balance(self, money: dict[str, Totals], findings: Findings) -> None:
        """Compares the charges of the group log with the captures less refunds of the payment log, per currency."""
        charged: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        for case in self._cases.values():
            for seat in case.group.seats.values():
                charged[seat.currency] += max(seat.settled_minor, 0)
        for _case, _payment, _reference, hold in holds_of(self._cases.values()):
            kept[hold.currency] += hold.merchants
        for currency in sorted(money):
            if charged[currency] != kept[currency]:
                what = f"{currency}: charged {charged[currency]} in the group log, {kept[currency]} in the payment log"
                findings.breach(Invariant.BALANCED, "", "", what)
