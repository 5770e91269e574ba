"""The groups of one partition that may have an issue for an operator: money owed, a stuck call, suspense, a dispute.

A group is in the index if something of it is due by itself, or if one of the events in ISSUE_EVENTS left something that
is not finished. On disk these groups are those with an entry in the index of due times; an issue without a due time has
an entry at the end of time. So a restart reads the index of due times, and not all payments.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from eventlog.core.aggregate import Aggregate
from eventlog.core.errors import NotReady
from eventlog.core.state_store import FOR_EVER_MS
from eventlog.processors.decider import Decider
from eventlog.records.codec import Codec
from eventlog.records.log_position import NO_IDENTITY, LogIdentity
from eventlog.runtime.time_slice import TimeSlice
from eventlog.state.rocksdb_store import RocksDBStore
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.state.issues import has_issue
from services.payments.domain.state.model import GroupPayments

#: Events that may leave an issue without a due time. Others need not be looked at, which keeps decisions fast.
ISSUE_EVENTS = frozenset(
    {
        "refund_declined",
        "refunded",
        "suspense_recorded",
        "suspense_approved",
        "money_owed",
        "refund_reversed",
        "returned_outside",
        "dispute_opened",
        "dispute_evidence_due",
        "call_given_up",
        "operator_acted",
    }
)


class WatchedDomain(GroupPaymentsDomain):
    """The rules of payments. Notes the groups with an event after which an issue may be open."""

    def __init__(self) -> None:
        self.touched: set[str] = set()

    def evolve(self, state: GroupPayments, event: PaymentEvent, at_ms: int) -> None:
        """See Domain."""
        super().evolve(state, event, at_ms)
        if event.WhichOneof("body") in ISSUE_EVENTS:
            self.touched.add(state.group)


class PaymentStore(RocksDBStore[GroupPayments]):
    """The payments of one partition, and the index of groups that may have an issue."""

    def __init__(
        self,
        path: Path,
        codec: Codec[GroupPayments],
        cached: int,
        touched: set[str],
        *,
        log_topic: str = "log",
        identity: LogIdentity = NO_IDENTITY,
    ) -> None:
        """`touched` are the groups that changed by an event of ISSUE_EVENTS, see WatchedDomain."""
        super().__init__(path, codec, cached, log_topic=log_topic, identity=identity)
        self._touched = touched
        #: Groups with an issue that is not due by itself.
        self._lasting: set[str] = set()
        #: All groups that may have an issue.
        self.candidates: set[str] = set()
        #: Whether the index has seen all groups. An empty store needs no scan: all its groups come through `changed`.
        self.scanned = self.checkpoint_position.applied < 0

    def reset(self, reason: str, detail: str) -> None:
        """See RocksDBStore."""
        super().reset(reason, detail)
        self.scanned = True

    def changed(self, aggregate: Aggregate[GroupPayments], due_ms: int | None) -> None:
        """See StateStore. An issue without a due time gets an entry at the end of time."""
        key = aggregate.key
        if key in self._touched or key in self._lasting:
            self._touched.discard(key)
            if has_issue(aggregate.state):
                self._lasting.add(key)
            else:
                self._lasting.discard(key)
        if due_ms is None and key in self._lasting:
            due_ms = FOR_EVER_MS
        if due_ms is None:
            self.candidates.discard(key)
        else:
            self.candidates.add(key)
        super().changed(aggregate, due_ms)

    def due_after(self, after_ms: int, most: int) -> Generator[tuple[int, str] | None, None, int]:
        """See StateStore. Leaves out the entries at the end of time, which never fire."""
        found = super().due_after(after_ms, most)
        while True:
            try:
                one = next(found)
            except StopIteration as end:
                reached: int = end.value
                return reached
            yield one if one is not None and one[0] < FOR_EVER_MS else None

    def scan(self) -> Iterator[None]:
        """Adds the groups on disk to the index and yields after each. Decisions may be made between two steps."""
        for key in self.timed_keys():
            if self.closed:
                return
            aggregate = self.peek(key)
            if aggregate is not None and has_issue(aggregate.state):
                self._lasting.add(key)
                self.candidates.add(key)
            yield
        self.scanned = not self.closed


class PaymentDecider(Decider[GroupPayments]):
    """The payment decider. Its view also lists the groups that may have an issue."""

    async def groups_with_issues(self, partitions: Collection[int] | None = None) -> list[str]:
        """The groups of `partitions` or of all, sorted. Some may have no issue any more.

        Raises NotReady unless this process has these partitions. The first call after a start reads the index on disk.
        """
        found: list[str] = []
        for store in self._stores(partitions):
            if not store.scanned:
                slices = TimeSlice()
                for _ in store.scan():
                    if slices.expired():
                        await slices.yield_to_loop()
        # Ownership may have changed during a scan.
        for store in self._stores(partitions):
            if not store.scanned:
                raise NotReady(f"{self.group}: a partition moved while its issues were read")
            found += store.candidates
        return sorted(found)

    def _stores(self, partitions: Collection[int] | None) -> list[PaymentStore]:
        stores: Any = [state.states for state in self._all_owned(partitions)]
        return list(stores)

    def _open(self, path: Path, identity: LogIdentity) -> RocksDBStore[GroupPayments]:
        assert self._codec is not None
        assert isinstance(self.domain, WatchedDomain)
        touched = self.domain.touched
        return PaymentStore(path, self._codec, self._cached, touched, log_topic=self._log.name, identity=identity)
