"""A partition's state on disk that follows its logs, whether or not this process owns the partition.

A standby keeps a follower close to the ends of its logs. At an assignment the processor adopts the follower, and reads
on from its positions instead of opening the database and folding a backlog.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol


class Follower(Protocol):
    """State of one partition. All methods run on the event loop's thread."""

    @property
    def partition(self) -> int:
        """Number of the partition."""
        ...

    @property
    def topics(self) -> Sequence[str]:
        """Topics that are folded; all of them have this partition."""
        ...

    @property
    def positions(self) -> Mapping[str, int]:
        """Offset of the record that `apply` folds next, by topic; no entry: nothing of the topic is folded yet."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it may not be used any more."""
        ...

    def apply(self, topic: str, records: Sequence[Any]) -> None:
        """Folds the next records of a topic, and skips those before its position. Sends no dead letters.

        It takes as long as its records, so pass a few dozen at a time and let the event loop turn in between. Raises
        what the fold raises at a broken log; the follower must then be closed.
        """
        ...

    async def keep(self) -> None:
        """Writes all that is folded so far, with its positions. Memory is bounded only if this is called regularly."""
        ...

    def close(self) -> None:
        """Lets go of the database, after a write under way. Changes after the last `keep` are folded again later."""
        ...


#: Hands over the follower of a partition that was just assigned. The processor owns the follower from then on.
#: None: there is none, so the processor opens the database itself.
Adopt = Callable[[int], Awaitable[Follower | None]]
