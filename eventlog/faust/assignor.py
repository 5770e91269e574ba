"""Which process of a consumer group owns which partition, and which processes follow it, by the group's assignment.

In each rebalance every member receives the whole assignment, by the address that each member gave (Faust's router does
the same). It names the process that was given a partition, not one whose state is ready. Do not use it as a lock.

Faust's assignor assigns standbys together with the partitions, and promotes them first when an owner leaves. Ours
leaves out the changelogs, whose standbys Faust would follow itself, and lose records. It assigns standbys of the inputs
alone, which mean nothing to Faust; eventlog/processors/standby follows them. And it gives each partition a standby that has room for it
when its owner leaves: Faust promotes no member beyond its share.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Set
from typing import Any

from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP
from yarl import URL

log = logging.getLogger(__name__)

SCHEME = "grpc://"


def url_of(address: str) -> str:
    """host:port as members of a group name each other."""
    return SCHEME + address


def standbys_of(actives: Mapping[str, Set[int]], before: Mapping[str, Set[int]], replicas: int) -> dict[str, set[int]]:
    """Partitions that each member follows, given what the members own, and follow so far.

    When any one member leaves, each of its partitions has a follower that may take it: the shares of the others grow to
    ceil(partitions / members left), and no member follows more partitions of one owner than fit into its share.
    """
    found: dict[str, set[int]] = {member: set() for member in actives}
    others = len(actives) - 1
    share = -(-sum(map(len, actives.values())) // others) if others else 0
    for owner, partitions in actives.items():
        room = {member: share - len(mine) for member, mine in actives.items() if member != owner}
        # Followers that stay are placed first: what another one would have to fold, they have.
        kept = {partition: [one for one in room if partition in before[one]] for partition in partitions}
        for partition in sorted(partitions, key=lambda one: (not kept[one], one)):
            ranked = sorted(room, key=lambda one: (room[one] <= 0, one not in kept[partition], -room[one], one))
            for member in ranked[:replicas]:
                found[member].add(partition)
            if ranked:
                room[ranked[0]] -= 1
    return found


def _partitions(assigned: Mapping[str, Iterable[int]], topics: Iterable[str]) -> set[int]:
    return {partition for topic in topics for partition in assigned.get(topic, ())}


class Assignor(PartitionAssignor):  # type: ignore[misc]
    """Faust's assignor, for members that may come back at another address.

    A static member that restarts is handed the assignment that it left, made for its old address. Faust ends the
    process there. Here it joins once more, with what it was assigned, so that the group is told the new address.
    """

    def __init__(self, app: Any, replicas: int = 1) -> None:
        # Without replicas Faust's assignor would also move partitions that may stay.
        super().__init__(app, replicas=max(getattr(app, "standbys", replicas), 1))
        self._as_assigned: URL | None = None

    @property
    def _url(self) -> URL:
        return self._as_assigned or self.app.conf.canonical_url

    def on_assignment(self, assignment: Any) -> None:
        """Faust's hook, on the consumer's thread."""
        told = ClientMetadata.loads(self._decompress(assignment.user_data)).url
        self._as_assigned = URL(told)
        try:
            super().on_assignment(assignment)
        finally:
            self._as_assigned = None
        if told != str(self._url):
            log.info("the group knows us as %s, not yet as %s: joining it again", told, self._url)
            self.app.consumer.request_rejoin()

    def _protocol_assignments(self, assignments: Any, *args: Any) -> Any:
        """Faust's hook of the leader, once all is assigned."""
        changelogs = self._table_manager.changelog_topics
        inputs = {topic for one in assignments.values() for topic in one.actives} - set(changelogs)
        actives = {member: _partitions(one.actives, inputs) for member, one in assignments.items()}
        before = {member: _partitions(one.standbys, inputs) for member, one in assignments.items()}
        after = standbys_of(actives, before, self.replicas)
        for member, assignment in assignments.items():
            assignment.standbys = {topic: sorted(after[member]) for topic in inputs}
        return super()._protocol_assignments(assignments, *args)

    def followed(self, topic: str) -> set[int]:
        """Partitions of an input that this process is to follow as a standby."""
        standbys = self._assignment.standbys
        # A leader of an earlier build assigns standbys to Faust.
        taken = {one for changelog in self._table_manager.changelog_topics for one in standbys.get(changelog, ())}
        return set(standbys.get(topic, ())) - taken

    def owner(self, topic: str, partition: int, own: str) -> str:
        """host:port that the owner of a partition of an input gave, as far as is known here; empty: nobody's.

        `own` is what we gave: it comes back as it is, while names of others have been made lower case on the way.
        """
        url = str(self._external_tps_url.get(TP(topic, partition), ""))
        if not url.startswith(SCHEME):
            return ""
        # Not `_url`: a rebalance changes that for a moment, on the consumer's thread. The table is replaced as a whole.
        return own if url == str(self.app.conf.canonical_url) else url.removeprefix(SCHEME)
