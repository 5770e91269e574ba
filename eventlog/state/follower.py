"""A partition's state on disk that follows its logs, whether or not this process owns the partition.

A standby keeps a follower close to the ends of its logs. At an assignment the processor adopts the follower and reads
on from its positions, instead of opening the database and folding a backlog.
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
        """Whether the follower is closed."""
        ...

    def apply(self, topic: str, records: Sequence[Any]) -> None:
        """Folds the next records of a topic, and skips those before its position. Sends no dead letters.

        Blocks the event loop, so pass a few dozen records at a time. Raises what the fold raises at a broken log;
        close the follower then.
        """
        ...

    async def persist(self) -> None:
        """Writes everything that is folded, with its positions. Call it regularly to bound the memory."""
        ...

    def close(self) -> None:
        """Closes the database, after a write in progress. Changes after the last `persist` are folded again later."""
        ...


#: Hands over the follower of a partition that was just assigned; the processor owns it from then on. None: there is no
#: follower, and the processor opens the database itself.
Adopt = Callable[[int], Awaitable[Follower | None]]
