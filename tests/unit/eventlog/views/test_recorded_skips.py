"""A skip is recorded for one record with one value, and for no other."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace
from typing import Any

from eventlog.views import recorded_skips
from eventlog.views.recorded_skips import RecordedSkips, Skip, skip_key


def skips(entries: dict[str, Skip | None]) -> RecordedSkips:
    made = RecordedSkips.__new__(RecordedSkips)

    class Reader:
        def find(self, key: str) -> Skip | None:
            return entries.get(key)

    reader: Any = Reader()
    made._table = reader
    return made


def skip(offset: int, digest: str, topic: str = "inbox") -> dict[str, Skip | None]:
    return {skip_key(topic, 1, offset): Skip(topic, 1, offset, digest)}


async def test_only_the_record_that_was_looked_at_is_skipped() -> None:
    found = skips({**skip(9, "ab12"), **skip(10, ""), skip_key("inbox", 1, 11): None})
    assert await found.recorded("inbox", 1, 9, "ab12")
    assert not await found.recorded("inbox", 1, 9, "ab13")
    assert not await found.recorded("inbox", 0, 9, "ab12")
    assert not await found.recorded("inbox", 1, 10, "")
    assert not await found.recorded("inbox", 1, 11, "ab12")


def test_a_record_is_passed_over_by_its_own_bytes_alone() -> None:
    for value in (b"foreign", None, b""):
        found = skips(skip(9, sha256(value or b"").hexdigest()))
        assert found.is_skipped("inbox", 1, SimpleNamespace(offset=9, value=value))
        assert not found.is_skipped("inbox", 1, SimpleNamespace(offset=9, value=b"genuine"))
        assert not found.is_skipped("inbox", 0, SimpleNamespace(offset=9, value=value))
        assert not found.is_skipped("other", 1, SimpleNamespace(offset=9, value=value))
        assert not found.is_skipped("inbox", 1, SimpleNamespace(offset=8, value=value))


def test_an_entry_that_skips_another_record_than_its_key_says_changes_nothing() -> None:
    assert recorded_skips._mismatch(skip_key("inbox", 1, 9), Skip("inbox", 1, 9, "ab")) == ""
    assert recorded_skips._mismatch("declared", None) == ""
    assert "another record" in recorded_skips._mismatch(skip_key("inbox", 1, 9), Skip("inbox", 1, 8, "ab"))
