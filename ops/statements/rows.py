"""Rows of a CSV file, one at a time, with the place of each field for errors. Gzip files are read as they are."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NoReturn

from ops.errors import CANNOT_RUN, OpsError
from shared_kernel.currencies import EXPONENTS

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 16
#: Longest number that is read, in characters.
_MAX_DIGITS = 18


def open_text(path: Path) -> IO[str]:
    """A text file, compressed or not. Raises OpsError."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        if packed:
            return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise OpsError(f"{path} can't be read: {error}", CANNOT_RUN) from error


def check_sha1(path: Path, wanted: str) -> None:
    """Compares the SHA-1 of the uncompressed file, as WeChat Pay states it. Raises OpsError."""
    found = hashlib.sha1(usedforsecurity=False)
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except (OSError, EOFError) as error:
        raise OpsError(f"{path} can't be read: {error}", CANNOT_RUN) from error
    if found.hexdigest() != wanted.lower():
        raise OpsError(f"{path} has SHA-1 {found.hexdigest()}, not {wanted.lower()}: download it again", CANNOT_RUN)


class Row:
    """One row with its header. Errors name line and column."""

    __slots__ = ("_columns", "_fields", "_line", "_path")

    def __init__(self, path: Path, line: int, columns: dict[str, int], fields: Sequence[str]) -> None:
        self._path = path
        self._line = line
        self._columns = columns
        self._fields = fields

    def fail(self, column: str, what: str) -> NoReturn:
        """Raises OpsError with the place."""
        at = self._columns.get(column, -1) + 1
        raise OpsError(f"{self._path} line {self._line} column {at} ({column}): {what}", CANNOT_RUN)

    def text(self, column: str, default: str | None = None) -> str:
        """A field; `default` for a column that the file does not have."""
        index = self._columns.get(column)
        if index is None:
            if default is None:
                self.fail(column, "is missing")
            return default
        return self._fields[index].strip()

    def required(self, column: str) -> str:
        """A field that is not empty."""
        return self.text(column) or self.fail(column, "is empty")

    def currency(self, column: str) -> str:
        """An ISO 4217 code in upper case."""
        code = self.required(column).upper()
        return code if code in EXPONENTS else self.fail(column, f"{code!r} is not an ISO 4217 currency")

    def minor(self, column: str, currency: str, default: str | None = None) -> int:
        """A decimal amount in minor units. It must not have more decimals than the currency, other than zeros."""
        text = self.text(column, default)
        sign = -1 if text.startswith("-") else 1
        whole, point, rest = text.lstrip("+-").partition(".")
        exponent = EXPONENTS[currency]
        used, spare = rest[:exponent].ljust(exponent, "0"), rest[exponent:]
        digits = whole + used
        if not (digits.isascii() and digits.isdecimal() and whole and len(digits) <= _MAX_DIGITS) or (
            point and not rest
        ):
            self.fail(column, f"{text!r} is not an amount")
        if spare.strip("0"):
            self.fail(column, f"{text!r} has more than {exponent} decimals of {currency}")
        return sign * int(digits)

    def time_ms(self, column: str, parse: Callable[[str], float]) -> int:
        """A time in milliseconds since the epoch. `parse` returns seconds, and raises ValueError."""
        text = self.required(column)
        try:
            return round(parse(text) * 1000)
        except (ValueError, OverflowError):
            self.fail(column, f"{text!r} is not a time")


def rows(
    path: Path, file: IO[str], wanted: Sequence[str], clean: Callable[[list[str]], list[str]] = lambda fields: fields
) -> Iterator[Row]:
    """The rows after the header, as they are read. Raises OpsError for a header without a wanted column."""
    reader = csv.reader(file)
    columns: dict[str, int] = {}
    try:
        for fields in reader:
            if not columns:
                columns = {name.strip(): index for index, name in enumerate(fields)}
                if missing := [name for name in wanted if name not in columns]:
                    raise OpsError(f"{path} is not such a statement: its header lacks {', '.join(missing)}", CANNOT_RUN)
                continue
            if not fields:
                continue
            cleaned = clean(fields)
            if len(cleaned) != len(columns):
                what = f"has {len(cleaned)} fields, the header has {len(columns)}"
                at = min(len(cleaned), len(columns)) + 1
                raise OpsError(f"{path} line {reader.line_num} column {at}: {what}", CANNOT_RUN)
            yield Row(path, reader.line_num, columns, cleaned)
    except (csv.Error, UnicodeDecodeError, EOFError, OSError) as error:
        raise OpsError(f"{path} line {reader.line_num + 1}: can't be read: {error}", CANNOT_RUN) from error
    if not columns:
        raise OpsError(f"{path} is empty", CANNOT_RUN)
