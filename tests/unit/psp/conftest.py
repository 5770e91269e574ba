from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.psp.account_books import Books


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = Books(tmp_path / "books.sqlite")
    yield opened
    opened.account_book.close()
