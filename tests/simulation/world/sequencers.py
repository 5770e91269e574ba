"""The sequencers of a simulated system, one partition each, with their tables of campaigns.

Mapping a fact to an input, and rejecting an undecodable one, is production code.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from eventlog.core.inbox_mapper import DependencyUnavailable, InboxMapper
from eventlog.records.dead_letters import Undecodable, dead_letter_headers
from services.groups.processors.sequencer import GroupInboxMapper
from shared_kernel import topics
from tests.simulation.world.broker import Broker, Record
from tests.simulation.world.processes import Batch, Out, Process, ended


class SequencerProcess(Process):
    """Copies facts into an inbox."""

    def __init__(
        self, broker: Broker, reader: str, sources: tuple[str, ...], partition: int, chance: Random,
        inbox: str, service: str, copying: InboxMapper, on_dead_letter: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(broker, reader, sources, partition, chance)
        self._inbox = inbox
        self._service = service
        self._mapper = copying
        self._on_dead_letter = on_dead_letter

    def handle(self, records: list[Record], batch: Batch) -> None:
        for record in records:
            assert record.key is not None
            copying = self._mapper.for_partition(record.topic, record.partition)
            try:
                try:
                    wrapped = copying.map_record(record)
                except DependencyUnavailable as missing:
                    ended(copying.load_dependency(missing))
                    wrapped = copying.map_record(record)
            except Undecodable as error:
                self._send_to_dlq(record, str(error), batch)
                wrapped = copying.reject(record, str(error))
            if wrapped is not None:
                self.outbox.append(Out(batch, self._inbox, record.key, wrapped, record.headers))

    def _send_to_dlq(self, record: Record, error: str, batch: Batch) -> None:
        self._on_dead_letter()
        headers = dead_letter_headers(record.topic, record.partition, record, error)
        letter = Out(batch, f"{record.topic}.{self._service}.dlq", record.key or b"", record.value or b"", headers)
        self.outbox.append(letter)


class Campaigns:
    """One sequencer's table of campaigns, which may be behind the topic."""

    def __init__(self, broker: Broker) -> None:
        self._log = broker.logs[topics.CAMPAIGNS.name, 0]
        self._read = 0
        self._known: dict[str, Campaign] = {}

    def read(self, count: int) -> None:
        """Reads so many records more."""
        for record in self._log[self._read : self._read + count]:
            self._known[(record.key or b"").decode()] = Campaign.FromString(record.value or b"")
        self._read = min(self._read + count, len(self._log))

    @property
    def behind(self) -> bool:
        """Whether the topic has records that were not read."""
        return self._read < len(self._log)

    def find(self, campaign: str) -> Campaign | None:
        """The campaign as of the last read."""
        return self._known.get(campaign)

    async def get_latest(self, campaign: str) -> Campaign | None:
        """Reads the topic to its end first."""
        self.read(len(self._log))
        return self.find(campaign)


def group_inbox_mapper(broker: Broker) -> tuple[GroupInboxMapper, Campaigns]:
    """The inbox mapper of one group sequencer, and its campaigns."""
    campaigns = Campaigns(broker)
    copying = GroupInboxMapper(topics.ORDERS.name, campaigns.find, campaigns.get_latest)
    return copying, campaigns
