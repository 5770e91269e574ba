"""Index of the open groups of one partition, by campaign: fewest free seats first, then the earliest deadline.

Its size does not grow with the number of groups: it has only the first `max_listed` groups of a campaign and at most
`max_held` groups in total.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple

from eventlog.core.aggregate import Aggregate
from eventlog.core.errors import NotReady
from services.groups.domain.model import Phase, State

#: Open groups of one campaign in one partition.
MAX_LISTED = 1_000
#: Open groups in one process, for all campaigns: about 50 MB.
MAX_HELD = 200_000
_RANK = struct.Struct(">HQ")
_FORMING = Phase.FORMING


class OpenGroup(NamedTuple):
    """An open group. Tuples sort in the order of the list."""

    seats_left: int
    deadline_ms: int
    group: str

    def rank(self) -> bytes:
        """Bytes that sort as the tuple does."""
        return _RANK.pack(self.seats_left, self.deadline_ms) + self.group.encode()

    @classmethod
    def from_rank(cls, rank: bytes) -> OpenGroup:
        """The group of a rank."""
        seats_left, deadline_ms = _RANK.unpack_from(rank)
        return cls(seats_left, deadline_ms, rank[_RANK.size :].decode())


class OpenGroups:
    """The open groups of one partition."""

    def __init__(self, max_listed: int = MAX_LISTED, max_held: int = MAX_HELD) -> None:
        self._max_listed = max_listed
        self._max_held = max_held
        self._ranks: dict[str, bytes] = {}
        self._by_campaign: dict[str, list[bytes]] = {}
        #: Campaigns with more open groups than the index has.
        self._truncated: set[str] = set()
        #: Whether a scan of all groups would add groups that have room in the index now.
        self.needs_rescan = False

    def __len__(self) -> int:
        return len(self._ranks)

    def update(self, aggregate: Aggregate[State]) -> None:
        """Adds, moves or removes a group that has changed."""
        state = aggregate.state
        terms = state.terms
        if terms is None or terms.solo:
            return
        key = aggregate.key
        rank = None
        if state.phase is _FORMING:
            seats_left = terms.capacity - len(state.reserved) - len(state.confirmed)
            if seats_left > 0:
                rank = _RANK.pack(seats_left, state.deadline_ms) + key.encode()
        before = self._ranks.get(key)
        if rank == before:
            return
        if before is not None:
            self._remove(terms.campaign, key, before)
        if rank is not None:
            self._add(terms.campaign, key, rank)

    def ranks_after(self, campaign: str, rank: bytes | None, limit: int) -> list[bytes]:
        """At most `limit` ranks after one. Raises NotReady if the index has lost all groups of the campaign."""
        ranks = self._by_campaign.get(campaign, [])
        start = 0 if rank is None else bisect_right(ranks, rank)
        if not ranks and campaign in self._truncated:
            raise NotReady("the open groups of this campaign are being scanned")
        return ranks[start : start + limit]

    def nearest(self, campaign: str, after: tuple[int, int, str] | None, limit: int) -> list[OpenGroup]:
        """As `ranks_after`, with groups instead of ranks."""
        rank = None if after is None else OpenGroup(*after).rank()
        return [OpenGroup.from_rank(found) for found in self.ranks_after(campaign, rank, limit)]

    def begin_scan(self) -> None:
        """Call it before a scan that updates all groups."""
        self._truncated.clear()
        self.needs_rescan = False

    def _add(self, campaign: str, key: str, rank: bytes) -> None:
        ranks = self._by_campaign.setdefault(campaign, [])
        if len(ranks) >= self._max_listed or len(self._ranks) >= self._max_held:
            self._truncated.add(campaign)
            if not ranks or rank > ranks[-1]:
                if not ranks:
                    del self._by_campaign[campaign]
                return
            del self._ranks[OpenGroup.from_rank(ranks.pop()).group]
        insort(ranks, rank)
        self._ranks[key] = rank

    def _remove(self, campaign: str, key: str, rank: bytes) -> None:
        ranks = self._by_campaign[campaign]
        del ranks[bisect_left(ranks, rank)]
        del self._ranks[key]
        if campaign in self._truncated and len(ranks) * 2 < self._max_listed and len(self._ranks) * 2 < self._max_held:
            self.needs_rescan = True
        if not ranks:
            del self._by_campaign[campaign]
