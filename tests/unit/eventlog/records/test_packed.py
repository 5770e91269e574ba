"""Bytes of states decode to their type or fail, and numbers may be of any size."""

from __future__ import annotations

import pickle
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from groupbuy.payments.v1.decisions_pb2 import OPERATION_VOID as VOID

from eventlog.core.aggregate import Aggregate
from eventlog.core.state_store import CheckpointPosition
from eventlog.records.codec import Codec
from eventlog.records.packed import Packed
from eventlog.state import database
from eventlog.state.rocksdb_store import RocksDBStore
from services.groups.domain.model import Phase, Seat, State, WaitlistEntry
from services.groups.processors import codec as of_groups
from services.payments.domain.state.model import (
    AbandonedRefund,
    Call,
    GroupPayments,
    Hold,
    Intent,
    Payment,
    Record,
    Refund,
    RefundStatus,
)
from services.payments.processors import codec as of_payments
from tests.unit.eventlog.counting import Counter

HUGE = [2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**40]


@dataclass
class Sums:
    total: int
    name: str = "7"
    by: dict[tuple[str, int], int] = field(default_factory=dict)


@pytest.mark.parametrize("number", HUGE)
def test_numbers_beyond_64_bits_are_restored(number: int) -> None:
    packed: Packed[Sums] = Packed(Sums)
    value = Sums(number, by={("a", 1): number})
    assert packed.decode(packed.encode(value)) == value


@pytest.mark.parametrize("number", HUGE)
def test_states_with_huge_amounts_are_restored(number: int) -> None:
    state = State(
        phase=Phase.COMPLETED,
        confirmed={"a": Seat("c", 1, 0, "h")},
        waitlist={"w": WaitlistEntry("c", 1, "card", b"\x00\xff")},
        ended={"z": 17},
        captured_minor=number,
    )
    assert of_groups.decode(of_groups.encode(state)) == state
    payment = Payment(
        Intent.CAPTURE,
        refunded=number,
        other_holds=("x",),
        refunds={"r": Refund(RefundStatus.SUCCEEDED, 5, b"\xff")},
        abandoned={2: AbandonedRefund("h", "r")},
        calls={(VOID, 2): Call(VOID, 2, 3, "h", "")},
        holds={"h": Hold("EUR", taken=number)},
    )
    payments = GroupPayments("g", {"o": payment, "q": Record()}, [(1, "o", VOID, 2)])
    again = of_payments.decode(of_payments.encode(payments))
    assert again == payments
    assert [type(one) for one in again.orders.values()] == [Payment, Record]


class Planted:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.check_call, (["touch", str(self.touched)],)


@pytest.mark.parametrize("codec", [of_groups, of_payments], ids=["groups", "payments"])
def test_a_pickled_object_is_not_decoded(codec: Any, tmp_path: Path) -> None:
    planted = pickle.dumps(Planted(tmp_path / "touched"))
    for value in (planted, b"\xc1" + planted, b"", b"\xff", msgspec.msgpack.encode({"a": 1})):
        with pytest.raises(msgspec.MsgspecError):
            codec.decode(value)
    assert not (tmp_path / "touched").exists()


def test_an_invalid_row_marks_the_directory_as_damaged_and_the_next_start_folds_the_log_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exit_with(reason: str, error: BaseException | None = None, **_: object) -> None:
        raise SystemExit(reason)

    monkeypatch.setattr(database, "abort", exit_with)
    path = tmp_path / "0"
    codec: Codec[Counter] = Codec.of("counting-1", Counter)
    states = RocksDBStore(path, codec)
    states.changed(Aggregate("k", Counter(total=1), 1, 0, 0, b"d" * 32), None)
    states.save_folded(CheckpointPosition(0, 0, b"d" * 32))
    batch = states._database.batch()
    batch.put(b"ak", b"\0" * 64 + pickle.dumps(Planted(tmp_path / "touched")))
    states._database.write(batch, states._database.position)
    states.close()
    states = RocksDBStore(path, codec)
    with pytest.raises(SystemExit):
        states.get("k")
    states.close()
    again = RocksDBStore(path, codec)
    assert again.checkpoint_position.applied == -1
    assert again.get("k") is None
    again.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["0", "0.set-aside"]
