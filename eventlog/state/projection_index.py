"""An index of a projection's partition: rows by a name and, within a name, in the order of their places.

An example: the orders of a customer (the name), newest first (the place).
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nsmallest

from eventlog.state.database import Database

_INDEX = b"i"


class Index:
    """Rows of one partition. Changes since the last write are in memory, and every page includes them."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._changed: dict[str, dict[bytes, bytes | None]] = {}
        self._saving: dict[str, dict[bytes, bytes | None]] = {}

    def put(self, name: str, place: bytes, value: bytes) -> None:
        """Adds a row, or changes its value."""
        rows = self._changed.get(name)
        if rows is None:
            self._changed[name] = {place: value}
        else:
            rows[place] = value

    def delete(self, name: str, place: bytes) -> None:
        """Deletes a row."""
        self._changed.setdefault(name, {})[place] = None

    def page(self, name: str, after: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """At most `most` (place, value) of a name, in order, beginning after a place; b"": from the first."""
        changes = {**self._saving.get(name, {}), **self._changed.get(name, {})}
        prefix = _prefix(name)
        start = prefix + after + b"\0" if after else prefix
        deleted = sum(value is None for value in changes.values())
        found: dict[bytes, bytes | None] = {
            row[len(prefix) :]: value for row, value in self._db.rows(start, prefix, most + deleted)
        }
        if not changes:
            return [(place, value) for place, value in found.items() if value is not None]
        found.update((place, value) for place, value in changes.items() if place > after)
        return nsmallest(most, ((place, value) for place, value in found.items() if value is not None))

    def begin_write(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Yields the changed rows; None: the row is deleted. Later changes are part of the next write."""
        self._saving, self._changed = self._changed, {}
        return self._rows(self._saving)

    @staticmethod
    def _rows(saving: dict[str, dict[bytes, bytes | None]]) -> Iterator[tuple[bytes, bytes | None]]:
        for name, rows in saving.items():
            prefix = _prefix(name)
            for place, value in rows.items():
                yield prefix + place, value

    def end_write(self) -> None:
        """The write that was begun is on disk."""
        self._saving = {}


def _prefix(name: str) -> bytes:
    raw = name.encode()
    return _INDEX + len(raw).to_bytes(4, "big") + raw
