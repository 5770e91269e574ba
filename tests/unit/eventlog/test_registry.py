"""A skip is recorded for one record with one value, and for no other."""

from __future__ import annotations

from typing import Any

from eventlog.registry import RecordedSkips, skip_key


def skips(entries: dict[str, str]) -> RecordedSkips:
    made = RecordedSkips.__new__(RecordedSkips)

    class Reader:
        def find(self, key: str) -> str | None:
            return entries.get(key)

    reader: Any = Reader()
    made._reader = reader
    return made


async def test_only_the_record_that_was_looked_at_is_skipped() -> None:
    found = skips({skip_key("inbox", 1, 9): "ab12", skip_key("inbox", 1, 10): ""})
    assert await found.recorded("inbox", 1, 9, "ab12")
    assert not await found.recorded("inbox", 1, 9, "ab13")
    assert not await found.recorded("inbox", 0, 9, "ab12")
    assert not await found.recorded("inbox", 1, 10, "")
