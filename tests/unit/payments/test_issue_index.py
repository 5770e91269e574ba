"""The index of groups that may have an issue: complete after each change, and after a restart from a checkpoint."""

from __future__ import annotations

from pathlib import Path

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from eventlog.core.aggregate import Aggregate
from eventlog.core.state_store import FOR_EVER_MS, CheckpointPosition
from eventlog.records.codec import Codec
from services.payments.domain.state.model import GroupPayments
from services.payments.processors import codec
from services.payments.processors.issue_index import ISSUE_EVENTS, PaymentStore, WatchedDomain

ORDER = "o1"
CODEC: Codec[GroupPayments] = Codec("test", codec.encode, codec.decode)


class Partition:
    """The payments of one partition. Each event is a decision of its own."""

    def __init__(self, path: Path) -> None:
        self.domain = WatchedDomain()
        self.store = PaymentStore(path, CODEC, 8, self.domain.touched)

    def group(self, number: int) -> Aggregate[GroupPayments]:
        key = f"g{number:04}"
        return self.store.get(key) or Aggregate(key, self.domain.initial(key))

    def event(self, number: int, event: PaymentEvent) -> None:
        group = self.group(number)
        group.version += 1
        self.domain.evolve(group.state, event, 0)
        self.store.changed(group, self.domain.due(group.state))

    def open_dispute(self, number: int) -> None:
        opened = pb.DisputeOpened(order=ORDER, hold="h", dispute="d", amount_minor=5, withdrawn_minor=5)
        self.event(number, PaymentEvent(dispute_opened=opened))

    def win_dispute(self, number: int) -> None:
        self.event(number, PaymentEvent(dispute_won=pb.DisputeWon(order=ORDER, hold="h", dispute="d")))

    def settle(self, number: int) -> None:
        released = pb.VoidRequested(call=pb.ProviderCall(order=ORDER))
        self.event(number, PaymentEvent(void_requested=released))
        self.event(number, PaymentEvent(payment_released=pb.PaymentReleased(order=ORDER)))

    def numbers(self) -> list[int]:
        return sorted(int(key[1:]) for key in self.store.candidates)

    def restarted(self, path: Path) -> Partition:
        self.store.save_folded(CheckpointPosition(9_999, 9_999))
        self.store.close()
        return Partition(path)


def test_an_issue_without_a_time_is_found_until_it_ends(tmp_path: Path) -> None:
    partition = Partition(tmp_path / "0")
    partition.settle(1)
    partition.open_dispute(2)
    partition.settle(3)
    assert partition.numbers() == [2]
    partition.win_dispute(2)
    assert partition.numbers() == []
    partition.store.close()


def test_the_index_is_complete_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "0"
    partition = Partition(path)
    for number in range(300):
        (partition.open_dispute if number % 3 == 0 else partition.settle)(number)
    partition.win_dispute(3)
    before = partition.numbers()
    assert len(before) == 99
    again = partition.restarted(path)
    assert not again.store.scanned
    steps = again.store.scan()
    for _ in range(20):
        next(steps)
    # Decisions during the scan: one issue ends, one is new.
    again.win_dispute(150)
    again.open_dispute(1)
    for _ in steps:
        continue
    assert again.store.scanned
    assert again.numbers() == sorted({*before, 1} - {150})
    # And once more, without a change: what ended is gone from the index on disk.
    final = again.restarted(path)
    assert sum(1 for _ in final.store.scan()) == len(before)
    assert final.numbers() == sorted({*before, 1} - {150})
    final.store.close()


def test_a_group_with_a_deferred_call_is_a_candidate(tmp_path: Path) -> None:
    partition = Partition(tmp_path / "0")
    call = pb.ProviderCall(order=ORDER, operation=pb.OPERATION_AUTHORISE, attempt=1, amount_minor=5, currency="CNY")
    partition.event(1, PaymentEvent(hold_requested=pb.HoldRequested(call=call)))
    assert partition.numbers() == []
    deferred = pb.CallDeferred(order=ORDER, operation=pb.OPERATION_AUTHORISE, attempt=1, retry_at_ms=1_000, deferrals=1)
    partition.event(1, PaymentEvent(call_deferred=deferred))
    assert partition.numbers() == [1]
    given_up = pb.CallGivenUp(order=ORDER, operation=pb.OPERATION_AUTHORISE, attempt=1)
    partition.event(1, PaymentEvent(call_given_up=given_up))
    assert partition.numbers() == [1]
    partition.store.close()


def test_an_issue_at_the_end_of_time_fires_no_timer(tmp_path: Path) -> None:
    path = tmp_path / "0"
    partition = Partition(path)
    partition.open_dispute(1)
    again = partition.restarted(path)
    found = again.store.due_after(-1, 100)
    seen = []
    while True:
        try:
            seen.append(next(found))
        except StopIteration as end:
            assert end.value == FOR_EVER_MS
            break
    assert [one for one in seen if one is not None] == []
    again.store.close()


def test_the_events_that_are_watched_exist() -> None:
    assert {field.name for field in PaymentEvent.DESCRIPTOR.fields} >= ISSUE_EVENTS
