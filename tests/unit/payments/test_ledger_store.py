"""Goal: what is kept of the books is always a whole prefix of the log, however often the process ends in between.
Method: the same log, booked in portions by one store after the other in one directory, against one that never ended."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.payments.domain.ledger import DAY_MS
from services.payments.processors import ledger_store
from services.payments.processors.ledger_store import LedgerStore, PartitionBooks
from tests.unit.payments.books import booked
from tests.unit.payments.stories import GROUP, authorised, captured, given, refund, refunded, reserved, settle

STORY = given(reserved(), authorised()).when(settle(60), after_ms=DAY_MS).when(captured(amount=60))
STORY.when(refund("r1", 25)).when(refunded(25), after_ms=DAY_MS)


def record(offset: int, value: bytes = b"") -> Any:
    return SimpleNamespace(offset=offset, key=GROUP.encode(), value=value or STORY.log[offset])


def same(books: PartitionBooks) -> None:
    wanted = booked(STORY)
    assert books.fold.head == wanted.fold.head
    assert books.fold.balances == wanted.fold.balances
    assert {day: tree.root() for day, tree in books.fold.days.items()} == {
        day: tree.root() for day, tree in wanted.fold.days.items()
    }
    assert books.of_partition((-1, -1), 1_000) == wanted.entries
    assert books.of_group(GROUP, (-1, -1), 1_000) == wanted.entries


@pytest.mark.parametrize("portion", [1, 2, 3, 100])
def test_books_go_on_where_they_ended(tmp_path: Path, portion: int) -> None:
    for begin in range(0, len(STORY.log), portion):
        store = LedgerStore(tmp_path / "books")
        books = store.partition(3)
        assert books.fold.head.next_offset == begin
        for offset in range(begin, min(begin + portion, len(STORY.log))):
            books.take(record(offset))
        books.flush()
        store.close()
    store = LedgerStore(tmp_path / "books")
    books = store.partition(3)
    assert books.fold.head.entries == len(booked(STORY).entries)
    assert books.fold.head.next_offset == len(STORY.log)
    assert books.fold.balances == booked(STORY).fold.balances
    store.close()


def test_what_is_read_is_what_a_fold_that_never_ended_has(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "books")
    for begin in range(0, len(STORY.log), 2):
        books = store.partition(0)
        for offset in range(begin, min(begin + 2, len(STORY.log))):
            books.take(record(offset))
        books.flush()
    same(store.partition(0))
    store.close()


def test_what_was_not_flushed_is_not_there_and_is_booked_again(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "books")
    books = store.partition(0)
    books.take(record(0))
    books.flush()
    books.take(record(1))
    store.close()
    store = LedgerStore(tmp_path / "books")
    books = store.partition(0)
    assert books.fold.head.next_offset == 1
    for offset in range(1, len(STORY.log)):
        books.take(record(offset))
    books.flush()
    same(books)
    store.close()


def test_partitions_share_a_store_and_nothing_else(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "books")
    first, second = store.partition(0), store.partition(1)
    first.take(record(0))
    first.flush()
    second.flush()
    assert store.partition(1).fold.head.next_offset == 0
    assert second.of_partition((-1, -1), 10) == []
    store.close()


def test_books_of_another_kind_are_folded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LedgerStore(tmp_path / "books")
    books = store.partition(0)
    books.take(record(0))
    books.flush()
    store.close()
    monkeypatch.setattr(ledger_store, "STAMP", b"ledger-of-tomorrow")
    store = LedgerStore(tmp_path / "books")
    assert store.partition(0).fold.head.next_offset == 0
    store.close()


def test_groups_that_were_dropped_from_memory_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_store, "CACHED", 4)
    store = LedgerStore(tmp_path / "books")
    books = store.partition(0)
    first = STORY.log[0]
    names = [f"9f6c1c5e-0000-4000-8000-{number:012d}" for number in range(40)]
    for offset, name in enumerate(names):
        value = first.replace(GROUP.encode(), name.encode())
        books.take(SimpleNamespace(offset=offset, key=name.encode(), value=value))
        books.flush()
    again = first.replace(GROUP.encode(), names[0].encode())
    books.take(SimpleNamespace(offset=len(names), key=names[0].encode(), value=again))
    assert books.fold.head.entries == len(names), "a repeat is known, also of a group that was not looked at for long"
    store.close()
