"""Warm-up: a process folds partitions to the ends of their logs before it joins its consumer group.

It may be assigned any partition, so it folds all of them, those with the newest state on disk first. Two cases are
quicker. If the group has no other member, nobody serves meanwhile, so the process joins at once. A static member that
restarts within its session folds only the partitions that are still assigned to it; its recovery would fold them too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from aiokafka import TopicPartition

from eventlog.broker.group_members import Member, members_of
from eventlog.broker.security import Kafka
from eventlog.processors.standby.followers import FollowedPartition, Followers, StandbyHost, topic_partitions
from eventlog.processors.standby.log_reader import LogReader
from eventlog.processors.standby.stop_signal import StopSignal

log = logging.getLogger(__name__)

#: The logs grow during the warm-up. It is complete once a pass to their ends took no longer than this, in seconds.
FINAL_PASS_S = 1.0
#: Seconds between two log lines about the progress.
REPORT_S = 5.0
#: Longest query for the members of the group, in seconds.
DESCRIBE_S = 10.0


class WarmUp:
    """The warm-up of one standby."""

    def __init__(
        self,
        group: str,
        instance: str,
        topics: Sequence[str],
        kafka: Kafka,
        host: StandbyHost,
        followers: Followers,
        reader: LogReader,
        stop: StopSignal,
    ) -> None:
        self._group = group
        self._instance = instance
        self._topics = tuple(topics)
        self._kafka = kafka
        self._host = host
        self._followers = followers
        self._reader = reader
        self._stop = stop

    async def partitions_to_fold(self, partitions: int) -> list[int]:
        """Partitions to fold, of so many, in this order; none if the process may join at once. Raises KafkaError."""
        members = await self._members()
        if self._is_alone_among(members):
            return []
        newest_first = sorted(range(partitions), key=lambda partition: (-self._host.written_at(partition), partition))
        own = [member for member in members if member.instance == self._instance]
        assigned = {partition for member in own for some in member.partitions.values() for partition in some}
        if own and not assigned:
            # The group rebalances. The partitions that were assigned to this member are among those on its disk.
            assigned = {partition for partition in newest_first if self._host.written_at(partition)}
        return [partition for partition in newest_first if partition in assigned] or newest_first

    async def _members(self) -> list[Member]:
        return await self._stop.run(members_of(self._kafka, self._group), DESCRIBE_S)

    def _is_alone_among(self, members: Sequence[Member]) -> bool:
        return all(member.instance == self._instance for member in members)

    async def fold(self, wanted: Sequence[int]) -> None:
        """Folds partitions to the ends of their logs, or until the other members have left. Raises KafkaError."""
        await self._followers.open(wanted)
        reported = time.monotonic()
        while True:
            began = time.monotonic()
            await self._reader.assign_followed()
            followed = self._followers.by_partition
            ends = await self._reader.ends(topic_partitions(self._topics, followed))
            for tp, end in ends.items():
                followed[tp.partition].ends[tp.topic] = end
            while tp_to_fold := next_log(followed, self._topics, ends, wanted):
                await self._reader.assign_followed()
                await self._reader.poll([tp_to_fold])
                if time.monotonic() - reported >= REPORT_S:
                    reported = time.monotonic()
                    log.info("%s: warming up, %s records left", self._group, self._followers.behind)
                    if self._is_alone_among(await self._members()):
                        return
            if time.monotonic() - began < FINAL_PASS_S:
                return


def next_log(
    followed: Mapping[int, FollowedPartition],
    topics: Sequence[str],
    ends: Mapping[TopicPartition, int],
    wanted: Sequence[int],
) -> TopicPartition | None:
    """The log to fold next; None if all are folded to their ends.

    It belongs to the first partition that is short of its ends, so the first partitions are complete if time runs out.
    Of its logs it is the one that is behind the others in time: a key's records of all logs are then folded while its
    state is in memory.
    """
    for partition in wanted:
        one = followed.get(partition)
        if one is not None:
            tps = topic_partitions(topics, [partition])
            short = [tp for tp in tps if one.reached.get(tp.topic, 0) < ends.get(tp, 0)]
            if short:
                times = one.times
                return min(short, key=lambda tp: times.get(tp.topic, 0))
    return None
