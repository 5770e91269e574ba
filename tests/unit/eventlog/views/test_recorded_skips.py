"""A skip applies to one record with one value."""

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


async def test_a_skip_applies_only_to_its_offset_and_digest() -> None:
    found = skips({**skip(9, "ab12"), **skip(10, ""), skip_key("inbox", 1, 11): None})
    assert await found.recorded("inbox", 1, 9, "ab12")
    assert not await found.recorded("inbox", 1, 9, "ab13")
    assert not await found.recorded("inbox", 0, 9, "ab12")
    assert not await found.recorded("inbox", 1, 10, "")
    assert not await found.recorded("inbox", 1, 11, "ab12")


def test_a_record_is_skipped_only_if_its_value_has_the_digest() -> None:
    for value in (b"foreign", None, b""):
        found = skips(skip(9, sha256(value or b"").hexdigest()))
        assert found.is_skipped("inbox", 1, SimpleNamespace(offset=9, value=value))
        assert not found.is_skipped("inbox", 1, SimpleNamespace(offset=9, value=b"genuine"))
        assert not found.is_skipped("inbox", 0, SimpleNamespace(offset=9, value=value))
        assert not found.is_skipped("other", 1, SimpleNamespace(offset=9, value=value))
        assert not found.is_skipped("inbox", 1, SimpleNamespace(offset=8, value=value))


def test_an_entry_must_skip_the_record_that_its_key_names() -> None:
    assert recorded_skips._mismatch(skip_key("inbox", 1, 9), Skip("inbox", 1, 9, "ab")) == ""
    assert recorded_skips._mismatch("declared", None) == ""
    assert "another record" in recorded_skips._mismatch(skip_key("inbox", 1, 9), Skip("inbox", 1, 8, "ab"))
