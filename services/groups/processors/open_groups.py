"""The group decider, and beside its state an index of the groups that strangers can still join, nearest to full first.

The index follows every change of a group, whether decided here or folded from the log. Groups from a checkpoint are
looked through behind the scenes after a start; until then a list is NotReady, never short. It does not hold up
decisions, nor grow with the number of groups: of a campaign only the nearest are held.
"""

from __future__ import annotations

import asyncio
import struct
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.core.aggregate import Aggregate
from eventlog.core.errors import NotReady
from eventlog.processors.decider import Decider
from eventlog.state.database import NO_IDENTITY, LogIdentity
from eventlog.state.rocksdb_store import Codec, RocksDBStore
from services.groups.domain.model import Phase, State

#: Open groups of one campaign held in one partition.
MAX_LISTED = 1_000
#: Open groups held in one process, whatever the number of campaigns: about 50 MB.
MAX_HELD = 200_000
#: Work of a look through kept groups between two chances for everybody else, and the pause after it.
SLICE_S = 0.002
PAUSE_S = 0.002
#: Seconds from one look through a partition to the next, where there is room for more than was held.
AGAIN_S = 10.0
#: Seconds between two looks at whether there is something to look through.
POLL_INTERVAL_S = 0.1
_RANK = struct.Struct(">HQ")
_FORMING = Phase.FORMING


class OpenGroup(NamedTuple):
    """An open group in the order of the list: fewest free seats first, then the earliest deadline."""

    seats_left: int
    deadline_ms: int
    group: str

    def rank(self) -> bytes:
        """Bytes that sort as the tuple does."""
        return _RANK.pack(self.seats_left, self.deadline_ms) + self.group.encode()


def _from_rank(rank: bytes) -> OpenGroup:
    seats_left, deadline_ms = _RANK.unpack_from(rank)
    return OpenGroup(seats_left, deadline_ms, rank[_RANK.size :].decode())


class OpenGroups:
    """The open groups of one partition, by campaign."""

    def __init__(self, most_listed: int = MAX_LISTED, most_held: int = MAX_HELD) -> None:
        self._most_listed = most_listed
        self._most_held = most_held
        self._ranks: dict[str, bytes] = {}
        self._by_campaign: dict[str, list[bytes]] = {}
        #: Campaigns that have more open groups than are held.
        self._cut: set[str] = set()
        #: Whether a look through all groups would find some that there is room for again.
        self.wants_more = False

    def __len__(self) -> int:
        return len(self._ranks)

    def note(self, aggregate: Aggregate[State]) -> None:
        """Follows a change of a group."""
        state = aggregate.state
        terms = state.terms
        if terms is None or terms.solo:
            return
        key = aggregate.key
        rank = None
        if state.phase is _FORMING:
            left = terms.capacity - len(state.reserved) - len(state.confirmed)
            if left > 0:
                rank = _RANK.pack(left, state.deadline_ms) + key.encode()
        before = self._ranks.get(key)
        if rank == before:
            return
        if before is not None:
            self._remove(terms.campaign, key, before)
        if rank is not None:
            self._add(terms.campaign, key, rank)

    def after(self, campaign: str, rank: bytes | None, limit: int) -> list[bytes]:
        """Ranks of at most so many groups that come next. Raises NotReady where it knows too little."""
        ranks = self._by_campaign.get(campaign, [])
        start = 0 if rank is None else bisect_right(ranks, rank)
        if not ranks and campaign in self._cut:
            raise NotReady("the open groups of this campaign are being looked through")
        return ranks[start : start + limit]

    def nearest(self, campaign: str, after: tuple[int, int, str] | None, limit: int) -> list[OpenGroup]:
        """As `after`, in words."""
        rank = None if after is None else OpenGroup(*after).rank()
        return [_from_rank(one) for one in self.after(campaign, rank, limit)]

    def begin_again(self) -> None:
        """All groups are about to be noted once more."""
        self._cut.clear()
        self.wants_more = False

    def _add(self, campaign: str, key: str, rank: bytes) -> None:
        ranks = self._by_campaign.setdefault(campaign, [])
        if len(ranks) >= self._most_listed or len(self._ranks) >= self._most_held:
            self._cut.add(campaign)
            if not ranks or rank > ranks[-1]:
                if not ranks:
                    del self._by_campaign[campaign]
                return
            del self._ranks[_from_rank(ranks.pop()).group]
        insort(ranks, rank)
        self._ranks[key] = rank

    def _remove(self, campaign: str, key: str, rank: bytes) -> None:
        ranks = self._by_campaign[campaign]
        del ranks[bisect_left(ranks, rank)]
        del self._ranks[key]
        if campaign in self._cut and len(ranks) * 2 < self._most_listed and len(self._ranks) * 2 < self._most_held:
            self.wants_more = True
        if not ranks:
            del self._by_campaign[campaign]


class ListedStates(RocksDBStore[State]):
    """Groups of one partition, and which of them are open."""

    def __init__(
        self,
        path: Path,
        codec: Codec[State],
        cached: int,
        most_held: int = MAX_HELD,
        *,
        log_topic: str = "log",
        identity: LogIdentity = NO_IDENTITY,
    ) -> None:
        super().__init__(path, codec, cached, log_topic=log_topic, identity=identity)
        self.open = OpenGroups(most_held=most_held)
        #: Whether the groups on disk have been looked through; none on disk: all there are come by `changed`.
        self.whole = self.origin.applied < 0
        #: When it was looked through last, by the monotonic clock.
        self.looked = float("-inf")

    def start_again(self, reason: str, trouble: str) -> None:
        """See RocksStates."""
        super().start_again(reason, trouble)
        self.whole = True

    def changed(self, aggregate: Aggregate[State], due_ms: int | None) -> None:
        """See States."""
        super().changed(aggregate, due_ms)
        self.open.note(aggregate)

    def look_through(self) -> Iterator[None]:
        """Notes every group that may be open, yielding between them; deciding may go on meanwhile."""
        self.open.begin_again()
        # Every group that forms has a deadline.
        for key in self.timed_keys():
            if self.closed:
                return
            aggregate = self.peek(key)
            if aggregate is not None:
                self.open.note(aggregate)
            yield
        self.whole = not self.closed


class GroupDecider(Decider[State]):
    """The group decider; its view knows the open groups of a campaign too."""

    async def start(self, partitions: int) -> None:
        """Starts; returns when the state is recovered, before it is looked through."""
        await super().start(partitions)
        self.spawn(self._look_through(), "open groups")

    def nearest(
        self,
        campaign: str,
        after: tuple[int, int, str] | None,
        limit: int,
        partitions: Collection[int] | None = None,
    ) -> list[OpenGroup]:
        """At most so many open groups of a campaign that come after one, of some partitions or of all. Raises NotReady
        unless all groups of these are here."""
        owned = self._owned()
        wanted = self.partitions
        if partitions is not None:
            owned = [state for state in owned if state.partition in partitions]
            wanted = len(partitions)
        if not self.partitions or len(owned) != wanted:
            raise NotReady(f"{self.group}: only some partitions are ready here")
        rank = None if after is None else OpenGroup(*after).rank()
        found = []
        for state in owned:
            states: Any = state.states
            if not states.whole:
                raise NotReady(f"{self.group}: partition {state.partition} is being looked through")
            found.append(states.open.after(campaign, rank, limit))
        return [_from_rank(one) for one in islice(merge(*found), limit)]

    def _open(self, path: Path, identity: LogIdentity) -> RocksDBStore[State]:
        assert self._codec is not None
        held = MAX_HELD // max(self.partitions, 1)
        return ListedStates(path, self._codec, self._cached, held, log_topic=self._log.name, identity=identity)

    async def _look_through(self) -> None:
        while True:
            for state in self._owned():
                states: Any = state.states  # as _make_state made it
                again = states.open.wants_more and time.monotonic() - states.looked > AGAIN_S
                if not states.whole or again:
                    await _in_slices(states.look_through())
                    states.looked = time.monotonic()
            await asyncio.sleep(POLL_INTERVAL_S)


async def _in_slices(steps: Iterator[None]) -> None:
    until = time.perf_counter() + SLICE_S
    for _ in steps:
        if time.perf_counter() > until:
            await asyncio.sleep(PAUSE_S)
            until = time.perf_counter() + SLICE_S
