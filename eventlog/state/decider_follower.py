"""The state of a decider's partition as a follower of its decision log; see follower.py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from eventlog.core.partition_state import PartitionState
from eventlog.runtime.time_slice import TimeSlice
from eventlog.state.rocksdb_store import RocksDBStore

S = TypeVar("S")


class DeciderFollower(Generic[S]):
    """Folds a decision log into a partition's state. All that it folds is acknowledged, so it can write at any time.

    Standby does not fold into it during a write.
    """

    def __init__(self, state: PartitionState[S], log_topic: str) -> None:
        #: The state that a decider goes on from.
        self.state = state
        self.partition = state.partition
        self.topics = (log_topic,)
        self._closed = False

    @property
    def positions(self) -> Mapping[str, int]:
        """See Follower."""
        return {self.topics[0]: self.state.applied + 1} if self.state.applied >= 0 else {}

    @property
    def closed(self) -> bool:
        """See Follower."""
        return self._closed

    def apply(self, topic: str, records: Sequence[Any]) -> None:
        """See Follower. Raises as PartitionState.apply."""
        for record in records:
            self.state.apply(record)

    async def persist(self) -> None:
        """See Follower."""
        states = self.state.states
        if not isinstance(states, RocksDBStore) or self._closed:
            return
        slices = TimeSlice()
        try:
            for _ in states.begin_checkpoint():
                if slices.expired():
                    await slices.yield_to_loop()
            await asyncio.to_thread(states.finish_checkpoint, self.state.checkpoint_position)
        finally:
            states.end_checkpoint()

    def close(self) -> None:
        """See Follower."""
        if not self._closed:
            self._closed = True
            self.state.close()
