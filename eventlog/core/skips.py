"""What a reader asks before it stops at a record that it can't take: whether an operator has recorded its skip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Topic, partition and record -> whether it is passed over. Asked only for a record that can't be taken, so a forged
#: skip makes no reader pass over one that it can take.
IsSkipped = Callable[[str, int, Any], bool]


def nothing_is_skipped(topic: str, partition: int, record: Any) -> bool:
    """For a reader without a registry."""
    return False
