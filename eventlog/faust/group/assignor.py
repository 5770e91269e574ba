"""Assigns partitions and standbys to the members of a consumer group, and finds the owner of a partition.

In each rebalance every member receives the whole assignment, by the addresses that the members gave (Faust's router
works the same way). The assignment names the process that was given a partition; the state of that process may not be
ready. Do not use it as a lock.

Faust's assignor assigns standbys together with the partitions, and promotes them first when an owner leaves. Ours
assigns no standbys of changelogs, because Faust would follow those itself and lose records. It assigns standbys of the
inputs, which Faust ignores; eventlog/processors/standby/ follows them. Each partition gets a standby with room to
take it over, since Faust promotes no member beyond its share.
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
    """The URL by which members of a group name a host:port."""
    return SCHEME + address


def standbys_of(actives: Mapping[str, Set[int]], before: Mapping[str, Set[int]], replicas: int) -> dict[str, set[int]]:
    """Partitions that each member follows, given the partitions that the members own and follow so far.

    When a member leaves, the shares of the others grow to ceil(partitions / members left). No member follows more
    partitions of one owner than fit into its share, so each partition has a follower that can take it over.
    """
    found: dict[str, set[int]] = {member: set() for member in actives}
    others = len(actives) - 1
    share = -(-sum(map(len, actives.values())) // others) if others else 0
    for owner, partitions in actives.items():
        room = {member: share - len(mine) for member, mine in actives.items() if member != owner}
        # Followers that stay are placed first, because another member would have to fold what they have folded.
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

    A static member that restarts receives its previous assignment, made for its old address. Faust ends the process at
    that. Here the member accepts the assignment and requests a rebalance, which announces its new address.
    """

    def __init__(self, app: Any, replicas: int = 1) -> None:
        # Without replicas Faust's assignor also moves partitions that could stay.
        super().__init__(app, replicas=max(getattr(app, "standbys", replicas), 1))
        self._as_assigned: URL | None = None

    @property
    def _url(self) -> URL:
        return self._as_assigned or self.app.conf.canonical_url

    def on_assignment(self, assignment: Any) -> None:
        """Faust's hook, on the consumer's thread."""
        assigned_url = ClientMetadata.loads(self._decompress(assignment.user_data)).url
        self._as_assigned = URL(assigned_url)
        try:
            super().on_assignment(assignment)
        finally:
            self._as_assigned = None
        if assigned_url != str(self._url):
            log.info("the group has our old address %s; rejoining as %s", assigned_url, self._url)
            self.app.consumer.request_rejoin()

    def _protocol_assignments(self, assignments: Any, *args: Any) -> Any:
        """Faust's hook on the leader, after the assignment."""
        changelogs = self._table_manager.changelog_topics
        inputs = {topic for one in assignments.values() for topic in one.actives} - set(changelogs)
        actives = {member: _partitions(one.actives, inputs) for member, one in assignments.items()}
        before = {member: _partitions(one.standbys, inputs) for member, one in assignments.items()}
        after = standbys_of(actives, before, self.replicas)
        for member, assignment in assignments.items():
            assignment.standbys = {topic: sorted(after[member]) for topic in inputs}
        return super()._protocol_assignments(assignments, *args)

    def followed(self, topic: str) -> set[int]:
        """Partitions of an input that this process follows as a standby."""
        standbys = self._assignment.standbys
        # A leader of an earlier build assigns standbys of changelogs, which Faust follows.
        taken = {one for changelog in self._table_manager.changelog_topics for one in standbys.get(changelog, ())}
        return set(standbys.get(topic, ())) - taken

    def owner(self, topic: str, partition: int, own: str) -> str:
        """host:port of the owner of an input's partition, as far as this process knows; empty: no owner.

        `own` is this process's own address, returned unchanged. Other addresses come back in lower case.
        """
        url = str(self._external_tps_url.get(TP(topic, partition), ""))
        if not url.startswith(SCHEME):
            return ""
        # Not `_url`, which a rebalance changes for a moment on the consumer's thread. The table is replaced as a whole.
        return own if url == str(self.app.conf.canonical_url) else url.removeprefix(SCHEME)
