"""Finds consumer groups that do no work: without a member, or with records to read and no progress.

A killed member leaves its group when its session expires: by default 10 s after its last heartbeat. With the limit of
10 s a dead service is therefore reported within 20 s and one poll.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

from eventlog.records.topic_spec import service_of
from ops.watch.lag import Lags, PartitionLag

log = logging.getLogger(__name__)

#: Seconds without a member, and without progress while there is something to read, after which a group is reported.
NO_MEMBERS_S = 10.0
NO_PROGRESS_S = 30.0
#: Seconds between two log lines about one problem.
_AGAIN_S = 60.0

_Place = tuple[str, str, int]


class Problem(NamedTuple):
    """A group that does no work."""

    group: str
    #: Empty: the whole group.
    topic: str
    partition: int
    #: Seconds since the problem was first seen.
    for_s: float
    why: str

    def __str__(self) -> str:
        where = f" {self.topic} partition {self.partition}" if self.topic else ""
        return f"service {service_of(self.group)}: group {self.group}{where} {self.why}"


class Liveness:
    """Compares the progress of groups over time."""

    def __init__(self, no_members_s: float = NO_MEMBERS_S, no_progress_s: float = NO_PROGRESS_S) -> None:
        self._no_members_s = no_members_s
        self._no_progress_s = no_progress_s
        self._memberless: dict[str, float] = {}
        #: Position of a partition with records to read, and when it was first seen there.
        self._waiting: dict[_Place, tuple[int | None, float]] = {}
        self._logged: dict[_Place, float] = {}
        self._committed: dict[_Place, int] = {}
        #: Records by which the committed offsets have advanced, by group.
        self.advanced: dict[str, int] = {}

    def observe(self, lags: Lags, now_s: float) -> list[Problem]:
        """Takes the next reading at a monotonic time. Returns and logs the present problems."""
        for row in lags.rows:
            self._count(row)
        problems = [*self._without_members(lags, now_s), *self._without_progress(lags, now_s)]
        self._log(problems, now_s)
        return problems

    def _count(self, row: PartitionLag) -> None:
        if row.position is None:
            return
        place = row.group, row.topic, row.partition
        before = self._committed.get(place, row.position)
        self._committed[place] = row.position
        self.advanced[row.group] = self.advanced.get(row.group, 0) + max(0, row.position - before)

    def _without_members(self, lags: Lags, now_s: float) -> Iterator[Problem]:
        for group, count in lags.members.items():
            if count:
                self._memberless.pop(group, None)
                continue
            for_s = now_s - self._memberless.setdefault(group, now_s)
            if for_s >= self._no_members_s:
                yield Problem(group, "", -1, for_s, f"has no member for {for_s:.0f} s: no replica of the service works")

    def _without_progress(self, lags: Lags, now_s: float) -> Iterator[Problem]:
        for row in lags.rows:
            place = row.group, row.topic, row.partition
            if not row.records:
                self._waiting.pop(place, None)
                continue
            position, since_s = self._waiting.get(place, (None, now_s))
            if place not in self._waiting or position != row.position:
                self._waiting[place] = row.position, now_s
                continue
            for_s = now_s - since_s
            if for_s >= self._no_progress_s and lags.members.get(row.group):
                owner = f"owner {row.owner}" if row.owner else "no owner"
                why = f"has {row.records} records to read and committed none for {for_s:.0f} s, {owner}"
                yield Problem(row.group, row.topic, row.partition, for_s, why)

    def _log(self, problems: list[Problem], now_s: float) -> None:
        present = {(one.group, one.topic, one.partition): one for one in problems}
        for place, problem in present.items():
            if now_s - self._logged.get(place, -_AGAIN_S) >= _AGAIN_S:
                log.error("%s", problem)
                self._logged[place] = now_s
        for place in self._logged.keys() - present.keys():
            log.info("group %s works again (%s %s)", *place)
            del self._logged[place]
