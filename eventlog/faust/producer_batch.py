"""A batch of records for an aiokafka producer, filled through the C builder inside aiokafka's BatchBuilder.

BatchBuilder.append makes two more Python calls a record, and they take as long as the record itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: (index in the batch, timestamp or None, key, value, headers as a list) -> metadata, or None if the batch is full.
AppendRecord = Callable[[int, None, bytes | None, bytes, list[tuple[str, bytes]]], Any]


def append_of(batch: Any) -> AppendRecord:
    """The function that appends a record to a batch. Its caller counts the records."""
    append: AppendRecord = batch._builder.append
    return append


def close_batch(batch: Any, count: int) -> None:
    """Closes a batch that `count` records were appended to."""
    batch._relative_offset = count
    batch.close()
