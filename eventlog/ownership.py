"""Which process of a consumer group owns which partition, as the group's own assignment has it.

In each rebalance every member is told the whole assignment, by the address that each member gave (Faust's router does
the same). It says to whom a partition was given, not that its state is ready there. Must never be taken for a lock.
"""

from __future__ import annotations

import logging
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


class Assignor(PartitionAssignor):  # type: ignore[misc]
    """Faust's assignor, for members that may come back at another address.

    A static member that restarts is handed the assignment that it left, made for its old address. Faust ends the
    process there. Here it joins once more, with what it was assigned, so that the group is told the new address.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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
            self.app.consumer.join_again()

    def owner(self, topic: str, partition: int, own: str) -> str:
        """host:port that the owner of a partition of an input gave, as far as is known here; empty: nobody's.

        `own` is what we gave: it comes back as it is, while names of others have been made lower case on the way.
        """
        url = str(self._external_tps_url.get(TP(topic, partition), ""))
        if not url.startswith(SCHEME):
            return ""
        return own if url == str(self._url) else url.removeprefix(SCHEME)
