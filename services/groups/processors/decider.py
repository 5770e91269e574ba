"""The group decider, with an index of the open groups beside its states.

The index follows every change of a group, decided here or folded from the log. After a start from a checkpoint the
groups on disk are scanned in the background, and lists are NotReady until the scan of a partition has ended. The scan
delays no decision.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

from eventlog.core.aggregate import Aggregate
from eventlog.core.errors import NotReady
from eventlog.processors.base import Connection
from eventlog.processors.decider import Decider
from eventlog.processors.observed_decisions import DecisionObserver
from eventlog.records.codec import Codec
from eventlog.records.log_position import NO_IDENTITY, LogIdentity
from eventlog.state.rocksdb_store import RocksDBStore
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State
from services.groups.processors import codec
from services.groups.processors.open_groups import MAX_HELD, OpenGroup, OpenGroups
from shared_kernel import topics

#: Changes with the format of kept states; a new stamp makes the first start refold the log.
STATE_STAMP = "groups-6"
#: Seconds of a scan between two yields to the event loop, and the pause after each.
SLICE_S = 0.002
PAUSE_S = 0.002
#: Seconds between two scans of a partition whose index has room for more groups.
RESCAN_INTERVAL_S = 10.0
#: Seconds between two checks for a partition to scan.
POLL_INTERVAL_S = 0.1


class GroupStore(RocksDBStore[State]):
    """The groups of one partition and the index of its open groups."""

    def __init__(
        self,
        path: Path,
        codec: Codec[State],
        cached: int,
        max_held: int = MAX_HELD,
        *,
        log_topic: str = "log",
        identity: LogIdentity = NO_IDENTITY,
    ) -> None:
        super().__init__(path, codec, cached, log_topic=log_topic, identity=identity)
        self.open = OpenGroups(max_held=max_held)
        #: Whether the index has seen all groups. An empty store needs no scan: all its groups come through `changed`.
        self.scanned = self.checkpoint_position.applied < 0
        #: Time of the last scan, by the monotonic clock.
        self.scanned_at = float("-inf")

    def reset(self, reason: str, detail: str) -> None:
        """See RocksDBStore."""
        super().reset(reason, detail)
        self.scanned = True

    def changed(self, aggregate: Aggregate[State], due_ms: int | None) -> None:
        """See StateStore."""
        super().changed(aggregate, due_ms)
        self.open.update(aggregate)

    def scan(self) -> Iterator[None]:
        """Adds every forming group to the index and yields after each. Decisions may be made between two steps."""
        self.open.begin_scan()
        # Every forming group has a deadline, and so a timer.
        for key in self.timed_keys():
            if self.closed:
                return
            aggregate = self.peek(key)
            if aggregate is not None:
                self.open.update(aggregate)
            yield
        self.scanned = not self.closed


class GroupDecider(Decider[State]):
    """The group decider. Its view also lists the open groups of a campaign."""

    async def start(self, partitions: int) -> None:
        """Starts; returns when the state is recovered, before it is scanned."""
        await super().start(partitions)
        self.spawn(self._scan_partitions(), "open groups")

    def nearest(
        self,
        campaign: str,
        after: tuple[int, int, str] | None,
        limit: int,
        partitions: Collection[int] | None = None,
    ) -> list[OpenGroup]:
        """At most `limit` open groups of a campaign after one, from `partitions` or from all. Raises NotReady unless
        this process has all groups of these partitions."""
        owned = self._all_owned(partitions)
        rank = None if after is None else OpenGroup(*after).rank()
        found = []
        for state in owned:
            store: Any = state.states
            if not store.scanned:
                raise NotReady(f"{self.group}: partition {state.partition} is being scanned")
            found.append(store.open.ranks_after(campaign, rank, limit))
        return [OpenGroup.from_rank(rank) for rank in islice(merge(*found), limit)]

    def _open(self, path: Path, identity: LogIdentity) -> RocksDBStore[State]:
        assert self._codec is not None
        max_held = MAX_HELD // max(self.partitions, 1)
        return GroupStore(path, self._codec, self._cached, max_held, log_topic=self._log.name, identity=identity)

    async def _scan_partitions(self) -> None:
        while True:
            for state in self._owned():
                store: Any = state.states  # a GroupStore, see _open
                rescan = store.open.needs_rescan and time.monotonic() - store.scanned_at > RESCAN_INTERVAL_S
                if not store.scanned or rescan:
                    await _run_in_slices(store.scan())
                    store.scanned_at = time.monotonic()
            await asyncio.sleep(POLL_INTERVAL_S)


async def _run_in_slices(steps: Iterator[None]) -> None:
    until = time.perf_counter() + SLICE_S
    for _ in steps:
        if time.perf_counter() > until:
            await asyncio.sleep(PAUSE_S)
            until = time.perf_counter() + SLICE_S


def group_decider(connection: Connection, observer: DecisionObserver | None = None) -> GroupDecider:
    """The decider of this service."""
    return GroupDecider(
        topics.GROUPS_DECIDER,
        topics.GROUP_INBOX,
        topics.GROUP_LOG,
        GroupDomain(),
        connection,
        Codec(STATE_STAMP, codec.encode, codec.decode),
        observer=observer,
    )
