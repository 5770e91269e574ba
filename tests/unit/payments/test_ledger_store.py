"""The stored ledger is always that of a prefix of the log, however often the process ends.

Method: one log is booked in portions by a series of stores in one directory, and by one store at a time without end.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventlog.records.log_position import SourcePosition
from eventlog.state.database import Database
from services.payments.ledger import store
from services.payments.ledger.journal import DAY_MS
from services.payments.ledger.store import PartitionLedger
from tests.scenarios.facts import GROUP
from tests.scenarios.payments import authorised, captured, given, refund, refunded, reserved, settle
from tests.unit.payments.booking import booked

STORY = given(reserved(), authorised()).when(settle(60), after_ms=DAY_MS).when(captured(amount=60))
STORY.when(refund("r1", 25)).when(refunded(25), after_ms=DAY_MS)


LOG = "payments"


def record(offset: int, value: bytes = b"") -> Any:
    return SimpleNamespace(offset=offset, key=GROUP.encode(), value=value or STORY.log[offset])


def opened(directory: Path, partition: int = 0, cached: int = store.CACHED_GROUPS) -> PartitionLedger:
    database = Database(directory / str(partition), store.STAMP)
    return PartitionLedger(partition, database, LOG, cached)


def same(ledger: PartitionLedger) -> None:
    wanted = booked(STORY)
    assert ledger.head == ledger.journal.head == wanted.journal.head
    assert ledger.balances == {name: tuple(sums) for name, sums in wanted.journal.balances.items()}
    assert {day: tree.root() for day, tree in ledger.days()} == {
        day: tree.root() for day, tree in wanted.journal.days.items()
    }
    assert list(ledger.journal.days) == [max(wanted.journal.days)], "trees of earlier days are not in memory"
    assert ledger.of_partition((-1, -1), 1_000) == wanted.entries
    assert ledger.of_group(GROUP, (-1, -1), 1_000) == wanted.entries
    assert ledger.of_partition((-1, -1), 2) == wanted.entries[:2]
    assert ledger.of_group(GROUP, (wanted.entries[1].offset, wanted.entries[1].number), 2) == wanted.entries[2:4]


@pytest.mark.parametrize("portion", [1, 2, 3, 100])
async def test_a_reopened_ledger_resumes_where_it_ended(tmp_path: Path, portion: int) -> None:
    for begin in range(0, len(STORY.log), portion):
        ledger = opened(tmp_path)
        assert ledger.positions.get(LOG, 0) == begin
        ledger.apply(LOG, [record(offset) for offset in range(min(begin + portion, len(STORY.log)))])
        await ledger.persist()
        ledger.close()
    ledger = opened(tmp_path)
    same(ledger)
    ledger.close()


async def test_a_write_stores_the_digest_of_the_last_record(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.apply(LOG, [record(0), record(1)])
    await ledger.persist()
    ledger.close()
    kept = Database(tmp_path / "0", store.STAMP)
    assert kept.position.sources == {LOG: SourcePosition(2, sha256(STORY.log[1]).digest())}
    kept.close()


async def test_unwritten_entries_are_not_read_and_are_booked_again(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.take(record(0))
    await ledger.persist()
    ledger.take(record(1))
    assert ledger.head.next_offset == 1
    ledger.close()
    ledger = opened(tmp_path)
    assert ledger.journal.head.next_offset == 1
    ledger.apply(LOG, [record(offset) for offset in range(len(STORY.log))])
    await ledger.persist()
    same(ledger)
    ledger.close()


async def test_a_large_write_runs_on_a_thread_and_close_waits_for_it(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    names = [f"9f6c1c5e-0000-4000-8000-{number:012d}" for number in range(2 * store.MAX_INLINE_WRITE)]
    for offset, name in enumerate(names):
        value = STORY.log[0].replace(GROUP.encode(), name.encode())
        ledger.take(SimpleNamespace(offset=offset, key=name.encode(), value=value))
    writing = asyncio.ensure_future(ledger.persist())
    async with asyncio.timeout(10):
        while ledger.unwritten:  # noqa: ASYNC110 - the write must not have ended when it is seen
            await asyncio.sleep(0)
    ledger.close()
    await writing
    ledger = opened(tmp_path)
    assert ledger.head.next_offset == len(names)
    ledger.close()


async def test_a_database_with_another_stamp_is_folded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened(tmp_path)
    ledger.take(record(0))
    await ledger.persist()
    ledger.close()
    monkeypatch.setattr(store, "STAMP", "ledger-of-tomorrow")
    ledger = opened(tmp_path)
    assert ledger.journal.head.next_offset == 0
    ledger.close()


async def test_evicted_group_states_are_loaded_again(tmp_path: Path) -> None:
    ledger = opened(tmp_path, cached=4)
    first = STORY.log[0]
    names = [f"9f6c1c5e-0000-4000-8000-{number:012d}" for number in range(40)]
    for offset, name in enumerate(names):
        value = first.replace(GROUP.encode(), name.encode())
        ledger.take(SimpleNamespace(offset=offset, key=name.encode(), value=value))
        await ledger.persist()
    assert len(ledger._cache) <= 4
    again = first.replace(GROUP.encode(), names[0].encode())
    ledger.take(SimpleNamespace(offset=len(names), key=names[0].encode(), value=again))
    assert ledger.journal.head.entries == len(names), (
        "a repeat is known, also of a group that was not looked at for long"
    )
    ledger.close()
