"""A provider's statement file: CSV with a header and one line per hold. Unknown columns are ignored."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.errors import CANNOT_RUN, OpsError

TEXTS = ("hold", "order", "group", "currency")
AMOUNTS = ("authorised_minor", "captured_minor", "released_minor", "refunded_minor", "open_minor")
#: An optional column.
WIRE = "wire"


def read(path: Path) -> list[StatementEntry]:
    """The entries of a file. Raises OpsError with the line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in (*TEXTS, *AMOUNTS) if name not in (rows.fieldnames or ())]
            if missing:
                raise OpsError(f"{path} is not a valid statement: its header lacks {', '.join(missing)}", CANNOT_RUN)
            return _unique(path, [_entry(path, rows.line_num, row) for row in rows])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OpsError(f"{path} can't be read: {error}", CANNOT_RUN) from error


def _entry(path: Path, number: int, row: Mapping[str, str | None]) -> StatementEntry:
    made = StatementEntry(wire=row.get(WIRE) or "")
    for name in TEXTS:
        setattr(made, name, row[name] or "")
    for name in AMOUNTS:
        text = row[name] or ""
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            raise OpsError(f"{path} line {number}: {name} is {text!r}, not a whole number of minor units", CANNOT_RUN)
        setattr(made, name, int(text))
    if not made.hold:
        raise OpsError(f"{path} line {number}: the hold is missing", CANNOT_RUN)
    return made


def _unique(path: Path, entries: list[StatementEntry]) -> list[StatementEntry]:
    seen: set[str] = set()
    for entry in entries:
        if entry.hold in seen:
            raise OpsError(f"{path} has hold {entry.hold} twice: a statement has one line per hold", CANNOT_RUN)
        seen.add(entry.hold)
    return entries
