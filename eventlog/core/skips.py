"""The question whether an operator has recorded a skip of a record, which a reader asks before it quarantines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: (topic, partition, record) -> whether a skip of the record is recorded. Called only for a record that can't be
#: processed, so a forged skip can't make a reader ignore a valid record.
IsSkipped = Callable[[str, int, Any], bool]


def nothing_is_skipped(topic: str, partition: int, record: Any) -> bool:
    """The IsSkipped of a reader without a registry of skips."""
    return False
