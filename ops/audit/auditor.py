"""Takes the records of all topics, in each topic's order, and keeps one file a group; says at the end what holds.

Knows topics by the product's registry alone. Records may come in any interleaving of topics; within a partition they
must come in order and from the beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from hashlib import sha256
from typing import Protocol

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from eventlog.core.partitioner import partition_of
from eventlog.records.envelope import header
from ops.audit.across import AcrossLogs, Scope
from ops.audit.cases import Case, Placed
from ops.audit.findings import Findings, Invariant
from ops.audit.group.membership import GroupState
from ops.audit.money.statement import Totals, compare, holds_of
from ops.audit.report import Report
from shared_kernel.topics import ALL, GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG

DEAD_LETTERS = frozenset(spec.name for spec in ALL if spec.message is None)

#: Topics of an audit, in the order in which their ends must be taken: what is caused before its cause, so that a
#: running system never shows an effect whose cause lies beyond the end.
TOPICS = (*sorted(DEAD_LETTERS), PAYMENT_LOG.name, PAYMENT_INBOX.name, GROUP_LOG.name, ORDERS.name)


class Record(Protocol):
    """What is read of a record; aiokafka's ConsumerRecord is one. `timestamp` is in milliseconds since the epoch."""

    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Collection[tuple[str, bytes]]: ...  # noqa: D102


class Auditor:
    """The second opinion on a whole log."""

    def __init__(
        self, partitions: int | None = None, skipped: Collection[tuple[str, int, int, bytes]] = frozenset()
    ) -> None:
        """`partitions` is the number that keys are placed by; None leaves their places unchecked.

        `skipped` are topic, partition, offset and SHA-256 of the records that deciders pass over.
        """
        self._skipped = frozenset(skipped)
        self._partitions = partitions
        self._cases: dict[str, Case] = {}
        self._findings = Findings()
        self._trimmed: set[tuple[str, int]] = set()
        self.records = 0
        self.duplicates = 0
        self.dead_letters = 0
        self._takers = {
            GROUP_LOG.name: self._group_decision,
            PAYMENT_LOG.name: self._payment_decision,
            PAYMENT_INBOX.name: self._payment_input,
            ORDERS.name: self._order_fact,
        }

    def begins_at(self, topic: str, partition: int, offset: int) -> None:
        """Tells where a partition's first record stands; greater than 0 where the log was trimmed."""
        if offset > 0:
            self._trimmed.add((topic, partition))

    def take(self, topic: str, records: Iterable[Record]) -> None:
        """Takes records of one partition."""
        if topic in DEAD_LETTERS:
            count = sum(1 for _ in records)
            self.dead_letters += count
            self.records += count
            return
        taker = self._takers[topic]
        for record in records:
            self.records += 1
            taker(record, (record.key or b"").decode(errors="replace"))

    def _case(self, key: str) -> Case:
        case = self._cases.get(key)
        if case is None:
            case = self._cases[key] = Case(key, self._findings)
        return case

    def _group_decision(self, record: Record, key: str) -> None:
        decision = GroupDecision()
        if not self._decode(decision, record, key, GROUP_LOG.name):
            return
        trimmed = (GROUP_LOG.name, record.partition) in self._trimmed
        if not self._case(key).group.take(record.value or b"", decision, trimmed):
            self.duplicates += 1

    def _payment_decision(self, record: Record, key: str) -> None:
        decision = PaymentDecision()
        if not self._decode(decision, record, key, PAYMENT_LOG.name):
            return
        trimmed = (PAYMENT_LOG.name, record.partition) in self._trimmed
        if not self._case(key).purse.take(record.value or b"", decision, trimmed):
            self.duplicates += 1

    def _decode(self, decision: GroupDecision | PaymentDecision, record: Record, key: str, topic: str) -> bool:
        try:
            decision.ParseFromString(record.value or b"")
        except DecodeError as error:
            self._findings.breach(
                Invariant.VERSIONS, key, "", f"{topic} offset {record.offset} is no decision: {error}"
            )
            return False
        if decision.group != key:
            what = f"{topic} offset {record.offset} decides about group {decision.group!r}"
            self._findings.breach(Invariant.VERSIONS, key, "", what)
            return False
        if self._partitions and record.partition != (right := partition_of(key, self._partitions)):
            what = f"{topic} partition {record.partition} offset {record.offset} belongs to partition {right}"
            self._findings.breach(Invariant.PARTITION, key, "", what)
        return True

    def _payment_input(self, record: Record, key: str) -> None:
        command = PaymentInput()
        try:
            command.ParseFromString(record.value or b"")
            body = command.WhichOneof("body")
            if body == "group_decision":
                case = self._case(key)
                # Copies of a decision may follow; what counts is when the purse first knew.
                if case.completion_input < 0:
                    events = GroupDecision.FromString(command.group_decision).events
                    if any(event.WhichOneof("body") == "completed" for event in events):
                        case.completion_input = record.offset
            elif body == "refund":
                self._case(key).refunds[command.refund.refund] = command.refund.order
        except DecodeError as error:
            if (PAYMENT_INBOX.name, record.partition, record.offset, _digest(record)) in self._skipped:
                return
            what = f"{PAYMENT_INBOX.name} offset {record.offset} can't be decoded: {error}"
            self._findings.breach(Invariant.VERSIONS, key, "", what)

    def _order_fact(self, record: Record, key: str) -> None:
        fact = OrderFact()
        try:
            fact.ParseFromString(record.value or b"")
        except DecodeError:
            fact.Clear()
        body = fact.WhichOneof("body")
        if body is None or fact.group != key:
            parts = (header(record.headers, "ce_subject") or "").split("/")
            if len(parts) == 4 and parts[1] == key:
                self._case(key).unreadable.add(parts[3])
            return
        case = self._case(key)
        if body == "cancel_requested":
            case.asked_to_cancel.add(fact.order)
        elif (known := case.placed.get(fact.order)) is not None:
            known.repeats += 1
        else:
            case.placed[fact.order] = Placed(fact.customer, fact.placed)

    def under_way(self) -> list[str]:
        """What is not over yet: a sample of it; empty when all is quiet."""
        findings = Findings()
        for case in self._cases.values():
            AcrossLogs(case, self._scope(False), findings).check()
        return findings.under_way

    def _scope(self, settled: bool) -> Scope:
        whole = {topic for topic, _ in self._trimmed}
        return Scope(settled, ORDERS.name not in whole, PAYMENT_INBOX.name not in whole)

    def report(
        self,
        *,
        settled: bool,
        entries: Collection[StatementEntry] | None = None,
        acknowledged: Iterable[tuple[str, str]] = (),
    ) -> Report:
        """What holds of all that was taken so far.

        `entries` is the provider's statement, taken after the records were read; None leaves the books uncompared.
        `acknowledged` are (group, order) that clients were told are placed. May be called again after more records.
        """
        findings = self._findings.copy()
        cases = self._cases
        for case in cases.values():
            AcrossLogs(case, self._scope(settled), findings).check()
        told = list(acknowledged)
        for group, order in told:
            if group not in cases or order not in cases[group].placed:
                findings.breach(Invariant.ACKNOWLEDGED_IS_LOGGED, group, order, "acknowledged, and not in the log")
        if entries is not None:
            compare(cases.values(), entries, settled, findings)
        money, holds, open_holds = self._money()
        if settled:
            self._check_balance(money, findings)
        return Report(
            findings=findings,
            settled=settled,
            books_compared=entries is not None,
            acknowledged=len(told),
            groups=Counter(case.group.state for case in cases.values() if case.group.state is not GroupState.NONE),
            orders=Counter(
                seat.state
                for case in cases.values()
                for order, seat in case.group.seats.items()
                if order in case.placed
            ),
            placed=sum(len(case.placed) for case in cases.values()),
            repeats=sum(placed.repeats for case in cases.values() for placed in case.placed.values()),
            holds=holds,
            open_holds=open_holds,
            money=money,
            duplicates=self.duplicates,
            dead_letters=self.dead_letters,
            records=self.records,
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
        """What groups were told was charged, against what purses took and kept, per currency."""
        charged: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        for case in self._cases.values():
            for seat in case.group.seats.values():
                charged[seat.currency] += max(seat.settled_minor, 0)
        for _case, _payment, _reference, hold in holds_of(self._cases.values()):
            kept[hold.currency] += hold.captured - hold.own_refunds
        for currency in sorted(money):
            if charged[currency] != kept[currency]:
                what = f"{currency}: groups count {charged[currency]} charged, purses {kept[currency]}"
                findings.breach(Invariant.BALANCED, "", "", what)


def _digest(record: Record) -> bytes:
    return sha256(record.value or b"").digest()
