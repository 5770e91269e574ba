"""Folds the records of all topics into one case per group, and reports at the end which invariants hold.

Records of different topics may interleave. Those of a partition have to come in order, from its beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from hashlib import sha256
from typing import Protocol, TypeVar

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

D = TypeVar("D", GroupDecision, PaymentDecision)

DEAD_LETTERS = frozenset(spec.name for spec in ALL if spec.message is None)

#: Topics of an audit, in the order in which their end offsets are read: effects before causes. So in a running system
#: the cause of every effect is within the ends.
TOPICS = (*sorted(DEAD_LETTERS), PAYMENT_LOG.name, PAYMENT_INBOX.name, GROUP_LOG.name, ORDERS.name)


class Record(Protocol):
    """The used attributes of a record, such as aiokafka's ConsumerRecord."""

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
    """An independent check of all logs."""

    def __init__(
        self, partitions: int | None = None, skipped: Collection[tuple[str, int, int, bytes]] = frozenset()
    ) -> None:
        """`partitions` is the declared number of partitions; with None the partition of a key is not checked.

        `skipped` are topic, partition, offset and SHA-256 of the records that deciders skip.
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
        """Sets the first offset of a partition. It is greater than 0 if the log was trimmed."""
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
        self._decision(GROUP_LOG.name, GroupDecision(), lambda case: case.group.take, record, key)

    def _payment_decision(self, record: Record, key: str) -> None:
        self._decision(PAYMENT_LOG.name, PaymentDecision(), lambda case: case.group_payments.take, record, key)

    def _decision(
        self,
        topic: str,
        decision: D,
        take_of: Callable[[Case], Callable[[bytes, D, bool], bool]],
        record: Record,
        key: str,
    ) -> None:
        if not self._decode(decision, record, key, topic):
            return
        trimmed = (topic, record.partition) in self._trimmed
        if not take_of(self._case(key))(record.value or b"", decision, trimmed):
            self.duplicates += 1

    def _decode(self, decision: GroupDecision | PaymentDecision, record: Record, key: str, topic: str) -> bool:
        try:
            decision.ParseFromString(record.value or b"")
        except DecodeError as error:
            self._findings.breach(
                Invariant.VERSIONS, key, "", f"{topic} offset {record.offset} is not a decision: {error}"
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
                # The first copy of a decision counts; duplicates may follow.
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
            case.cancel_requested.add(fact.order)
        elif (known := case.placed.get(fact.order)) is not None:
            known.duplicates += 1
        else:
            case.placed[fact.order] = Placed(fact.customer, fact.placed)

    def pending(self) -> list[str]:
        """A sample of the pending work; empty if everything is settled."""
        findings = Findings()
        for case in self._cases.values():
            AcrossLogs(case, self._scope(False), findings).check()
        return findings.pending

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
        """The report on all records so far. May be called again after more records.

        `entries` is the provider's statement, requested after the records were read; None omits the comparison.
        `acknowledged` are the (group, order) pairs whose placement was acknowledged to a client.
        """
        findings = self._findings.copy()
        cases = self._cases
        for case in cases.values():
            AcrossLogs(case, self._scope(settled), findings).check()
        acknowledged = list(acknowledged)
        for group, order in acknowledged:
            if group not in cases or order not in cases[group].placed:
                findings.breach(Invariant.ACKNOWLEDGED_IS_LOGGED, group, order, "acknowledged, but not in the log")
        if entries is not None:
            compare(cases.values(), entries, settled, findings)
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
        """Compares the charges of the group log with the captures less refunds of the payment log, per currency."""
        charged: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        for case in self._cases.values():
            for seat in case.group.seats.values():
                charged[seat.currency] += max(seat.settled_minor, 0)
        for _case, _payment, _reference, hold in holds_of(self._cases.values()):
            kept[hold.currency] += hold.captured - hold.own_refunds
        for currency in sorted(money):
            if charged[currency] != kept[currency]:
                what = f"{currency}: charged {charged[currency]} in the group log, {kept[currency]} in the payment log"
                findings.breach(Invariant.BALANCED, "", "", what)


def _digest(record: Record) -> bytes:
    return sha256(record.value or b"").digest()
