"""Folds the records of all topics into the cases of their groups, and reports what single records violate.

`audit` keeps all cases in memory (auditor.py); `watch` keeps the open ones there and the others on disk (ops/watch).
Records of different topics may interleave. Those of a partition have to come in order, from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from hashlib import sha256
from typing import Protocol

from google.protobuf.message import DecodeError, Message
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.inventory.v1.decisions_pb2 import AllowanceDecision, StockDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from eventlog.core.partitioner import partition_of
from eventlog.records.envelope import header
from ops.audit.across import Scope
from ops.audit.cases import Case, Placed, RefundInput
from ops.audit.causes import Causes, InboxPartition
from ops.audit.findings import Findings, Invariant, Violation
from ops.audit.group.inputs import GroupInputs
from ops.audit.stock.folds import InMemoryFolds, PieceFolds
from shared_kernel.topics import (
    ALL,
    ALLOWANCE_LOG,
    GROUP_INBOX,
    GROUP_LOG,
    ORDERS,
    PAYMENT_INBOX,
    PAYMENT_LOG,
    STOCK_LOG,
)

#: Topic, partition, offset and SHA-256 of the value of a record.
Place = tuple[str, int, int, bytes]

# Local copies: names are looked up once a record.
_GROUP_LOG, _GROUP_INBOX = GROUP_LOG.name, GROUP_INBOX.name
_STOCK_LOG, _ALLOWANCE_LOG = STOCK_LOG.name, ALLOWANCE_LOG.name
_PAYMENT_LOG, _PAYMENT_INBOX = PAYMENT_LOG.name, PAYMENT_INBOX.name
_INBOXES = frozenset({_GROUP_INBOX, _PAYMENT_INBOX})
DEAD_LETTERS = frozenset(spec.name for spec in ALL if spec.message is None)

#: Topics of `watch`, in the order in which their end offsets are read: effects before causes. So in a running system
#: the cause of every effect is within the ends.
TOPICS = (
    *sorted(DEAD_LETTERS),
    PAYMENT_LOG.name,
    PAYMENT_INBOX.name,
    STOCK_LOG.name,
    ALLOWANCE_LOG.name,
    GROUP_LOG.name,
    ORDERS.name,
)
#: Topics of an audit: it also compares the decisions of groups with their inputs.
AUDIT_TOPICS = (*TOPICS[:-1], GROUP_INBOX.name, ORDERS.name)


class Record(Protocol):
    """The used attributes of a record, such as aiokafka's ConsumerRecord."""

    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Collection[tuple[str, bytes]]: ...  # noqa: D102


class LogFold:
    """Folds records into cases."""

    def __init__(
        self,
        case_of: Callable[[str], Case],
        findings: Findings,
        partitions: int | None = None,
        skipped: Collection[Place] = frozenset(),
        causes: Causes | None = None,
        pieces: PieceFolds | None = None,
    ) -> None:
        """`case_of` returns the case of a group, which then changes. `findings` receives the violations. `pieces` finds
        the folds of stock items and allowances; None keeps them in memory.

        `partitions` is the declared number of partitions; with None the partition of a key is not checked. `skipped`
        are topic, partition, offset and SHA-256 of the records that deciders skip. With `causes`, both inboxes are read
        and every decision is compared with its input.
        """
        self._causes = causes
        self._case = case_of
        self._pieces = pieces if pieces is not None else InMemoryFolds(findings)
        self._findings = findings
        self._skipped = frozenset(skipped)
        self._partitions = partitions
        #: Topic and partition of each log that has lost its first records.
        self.trimmed: set[tuple[str, int]] = set()
        #: Violations of records that can't be decoded, by their place. A recorded skip ends such a violation.
        self.unreadable: dict[Place, Violation] = {}
        self.records = 0
        self.duplicates = 0
        self.dead_letters = 0
        self._takers = {
            GROUP_LOG.name: self._group_decision,
            PAYMENT_LOG.name: self._payment_decision,
            STOCK_LOG.name: self._stock_decision,
            ALLOWANCE_LOG.name: self._allowance_decision,
            GROUP_INBOX.name: self._group_input,
            PAYMENT_INBOX.name: self._payment_input,
            ORDERS.name: self._order_fact,
        }

    def begins_at(self, topic: str, partition: int, offset: int) -> None:
        """Sets the first offset of a partition. It is greater than 0 if the log was trimmed."""
        if offset > 0:
            self.trimmed.add((topic, partition))
            if self._causes is not None and topic in _INBOXES:
                self._causes.of(topic, partition).begin = offset

    def scope(self, *, settled: bool) -> Scope:
        """The checks across logs that the logs read so far allow."""
        trimmed = {topic for topic, _ in self.trimmed}
        return Scope(settled, ORDERS.name not in trimmed, PAYMENT_INBOX.name not in trimmed)

    def take(self, topic: str, records: Iterable[Record]) -> None:
        """Takes records of one partition."""
        if topic in DEAD_LETTERS:
            count = sum(1 for _ in records)
            self.dead_letters += count
            self.records += count
            return
        taker = self._takers[topic]
        if self._causes is None or topic not in _INBOXES:
            for record in records:
                self.records += 1
                taker(record, (record.key or b"").decode(errors="replace"))
            return
        inbox = None
        for record in records:
            self.records += 1
            key = (record.key or b"").decode(errors="replace")
            inbox = self._causes.of(topic, record.partition)
            inbox.take(record.offset, key, record.timestamp)
            taker(record, key)
        if inbox is not None:
            inbox.fold_ready()

    def waiting(self) -> int:
        """The number of decisions whose cause has not been read."""
        return sum(1 for one in self._causes.partitions.values() for _ in one.waiting()) if self._causes else 0

    def _group_decision(self, record: Record, key: str) -> None:
        decision = GroupDecision()
        if not self._decode(decision, record, key, _GROUP_LOG, "group"):
            return
        if self._causes is not None:
            causes = self._causes.of(_GROUP_INBOX, record.partition)
            causes.fold_after(decision.cause, lambda: self._fold_group(decision, record, key, causes))
        elif not self._case_at(record, key).group.take(
            record.value or b"", decision, bool(self.trimmed) and (_GROUP_LOG, record.partition) in self.trimmed
        ):
            self.duplicates += 1

    def _payment_decision(self, record: Record, key: str) -> None:
        decision = PaymentDecision()
        if not self._decode(decision, record, key, _PAYMENT_LOG, "group"):
            return
        if self._causes is not None:
            causes = self._causes.of(_PAYMENT_INBOX, record.partition)
            causes.fold_after(decision.cause, lambda: self._fold_payments(decision, record, key, causes))
        elif not self._case_at(record, key).group_payments.take(
            record.value or b"", decision, bool(self.trimmed) and (_PAYMENT_LOG, record.partition) in self.trimmed
        ):
            self.duplicates += 1

    def _stock_decision(self, record: Record, key: str) -> None:
        decision = StockDecision()
        if self._decode(decision, record, key, _STOCK_LOG, "stock"):
            trimmed = (_STOCK_LOG, record.partition) in self.trimmed
            self.duplicates += not self._pieces.stock(key).take(record.value or b"", decision, trimmed)

    def _allowance_decision(self, record: Record, key: str) -> None:
        decision = AllowanceDecision()
        if self._decode(decision, record, key, _ALLOWANCE_LOG, "allowance"):
            trimmed = (_ALLOWANCE_LOG, record.partition) in self.trimmed
            self.duplicates += not self._pieces.allowance(key).take(record.value or b"", decision, trimmed)

    def _case_at(self, record: Record, key: str) -> Case:
        case = self._case(key)
        case.at_ms = max(case.at_ms, record.timestamp)
        return case

    def _fold_group(self, decision: GroupDecision, record: Record, key: str, causes: InboxPartition) -> None:
        """Folds a decision whose input has been read."""
        case = self._case_at(record, key)
        group = case.group
        if group.inputs is None and not group.chain.version:
            # A group whose first input is no longer in the inbox is not compared with the others.
            group.inputs = case.inputs if decision.cause >= causes.begin else None
        before_ms = group.chain.time_ms
        if not group.take(record.value or b"", decision, (_GROUP_LOG, record.partition) in self.trimmed):
            self.duplicates += 1
        elif not group.chain.trimmed:
            self._check_cause(_GROUP_LOG, decision, key, before_ms, causes)

    def _fold_payments(self, decision: PaymentDecision, record: Record, key: str, causes: InboxPartition) -> None:
        """Folds a decision whose input has been read."""
        payments = self._case_at(record, key).group_payments
        before_ms = payments.chain.time_ms
        if not payments.take(record.value or b"", decision, (_PAYMENT_LOG, record.partition) in self.trimmed):
            self.duplicates += 1
        elif not payments.chain.trimmed:
            self._check_cause(_PAYMENT_LOG, decision, key, before_ms, causes)

    def _check_cause(
        self, topic: str, decision: GroupDecision | PaymentDecision, key: str, before_ms: int, causes: InboxPartition
    ) -> None:
        at_ms = causes.at_ms(decision.cause, key)
        about = f"{topic} version {decision.version}"
        if at_ms is None:
            what = f"{about} is caused by input {decision.cause}, which is of another group"
            self._findings.breach(Invariant.FOLLOWS_INPUT, key, "", what)
        elif at_ms >= 0 and decision.time_ms != max(before_ms, at_ms):
            what = f"{about} has time {decision.time_ms}, its input gives {max(before_ms, at_ms)}"
            self._findings.breach(Invariant.FOLLOWS_INPUT, key, "", what)

    def _decode(self, decision: Message, record: Record, key: str, topic: str, named: str) -> bool:
        """Decodes a decision. `named`: the field that has the key of the aggregate."""
        try:
            decision.ParseFromString(record.value or b"")
        except DecodeError as error:
            self._unreadable(topic, record, key, f"is not a decision: {error}")
            return False
        if (name := getattr(decision, named)) != key:
            what = f"{topic} offset {record.offset} decides about {named} {name!r}"
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
                case = self._case_at(record, key)
                # The first copy of a decision counts; duplicates may follow.
                if case.completion_input < 0:
                    # The slice is a list, which is iterated faster than the field.
                    for event in GroupDecision.FromString(command.group_decision).events[:]:
                        if event.HasField("completed"):
                            case.completion_input = record.offset
            elif body == "refund":
                case = self._case_at(record, key)
                refund = command.refund
                # The first command of an id counts; a later one with another payload is refused.
                case.refunds.setdefault(refund.refund, RefundInput(refund.order, refund.amount_minor))
        except DecodeError as error:
            self._unreadable(PAYMENT_INBOX.name, record, key, f"can't be decoded: {error}")

    def _group_input(self, record: Record, key: str) -> None:
        message = GroupInput()
        try:
            message.ParseFromString(record.value or b"")
            case = self._case_at(record, key)
            if case.inputs is None:
                case.inputs = GroupInputs()
            case.inputs.take(record.offset, message)
        except DecodeError as error:
            self._unreadable(GROUP_INBOX.name, record, key, f"can't be decoded: {error}")

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
        case = self._case_at(record, key)
        if body == "cancel_requested":
            case.cancel_requested.add(fact.order)
        elif (known := case.placed.get(fact.order)) is not None:
            known.duplicates += 1
        else:
            case.placed[fact.order] = Placed.of(fact.customer, fact.placed, record.timestamp)

    def _unreadable(self, topic: str, record: Record, key: str, what: str) -> None:
        place = topic, record.partition, record.offset, sha256(record.value or b"").digest()
        if place not in self._skipped:
            self.unreadable[place] = Violation(Invariant.VERSIONS, key, "", f"{topic} offset {record.offset} {what}")
