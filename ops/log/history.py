"""The history of one group: its records of all topics, ordered by time, as lines for people.

`groupbuy-ops show` prints these lines, and the console shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import Message
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from chassis.telemetry.printable import printable
from eventlog.core.partitioner import partition_of
from eventlog.records.topic_spec import TopicSpec
from ops.log.reader import Reader
from ops.log.rendering.decode import decode, words
from ops.log.rendering.describe import day_and_clock, event_line, fact_line, orders_of
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_LOG

#: In the order of cause and effect, which orders entries of equal times.
HISTORY = (ORDERS, GROUP_LOG, PAYMENT_LOG)
#: The name of each topic's author in a line.
WHO = {ORDERS.name: "order", GROUP_LOG.name: "group", PAYMENT_LOG.name: "payments"}
_PLACE = {spec.name: index for index, spec in enumerate(HISTORY)}
_SPECS = {spec.name: spec for spec in HISTORY}
_DUPLICATE = " (duplicate; identical records are ignored)"


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a group's history."""

    spec: TopicSpec
    record: Any
    message: Message | None

    @classmethod
    def of(cls, topic: str, record: Any) -> Entry:
        """The entry of a record."""
        spec = _SPECS[topic]
        return cls(spec, record, decode(spec, record))

    def lines(self, order: str | None) -> list[str]:
        """The lines of the entry, about one order or all."""
        return [text for _, text in self.events(order)]

    def events(self, order: str | None) -> list[tuple[Any, str]]:
        """The events of the entry, about one order or all, each with its line. A fact is its own event."""
        message = self.message
        if isinstance(message, OrderFact):
            return [(message, fact_line(message))] if order in {None, message.order} else []
        if isinstance(message, GroupDecision | PaymentDecision):
            events = [event for event in message.events if order is None or order in orders_of(event)]
            return [(event, event_line(event)) for event in events]
        return [(None, words(message, self.record.value))] if order is None else []


class Line(NamedTuple):
    """One line of a history."""

    entry: Entry
    #: The event that it describes; None if the record can't be decoded.
    event: Any
    #: Empty in the further lines of a record.
    time: str
    #: Author, and version of a decision; empty in the further lines of a record.
    head: str
    text: str

    def __str__(self) -> str:
        return f"{self.time:<24}  {self.head:<14}{self.text}"


async def history(kafka: str, key: str) -> list[Entry]:
    """All records of a group, ordered by time."""
    async with Reader(kafka, [HISTORY[0].name]) as reader:
        partitions = reader.partitions(HISTORY[0].name)
    entries: list[Entry] = []
    # All records of a group have the same partition number in every topic.
    async with Reader(kafka, list(_SPECS), [partition_of(key, partitions)]) as reader:
        await read_more(reader, key, entries)
    return entries


async def read_more(reader: Reader, key: str, entries: list[Entry]) -> list[Entry]:
    """Adds the records of a group up to the current ends, and sorts all by time. Returns the new ones, as they came."""
    wanted = key.encode()
    found: list[Entry] = []

    def take(topic: str, records: list[Any]) -> None:
        found.extend(Entry.of(topic, record) for record in records if record.key == wanted)

    await reader.read_to_end(take)
    entries.extend(found)
    entries.sort(key=lambda entry: (entry.record.timestamp, _PLACE[entry.spec.name], entry.record.offset))
    return found


def lines(entries: Sequence[Entry], order: str | None = None) -> Iterator[Line]:
    """The lines of a history, about one order or all."""
    versions: dict[str, int] = {}
    for entry in entries:
        who = WHO[entry.spec.name]
        message = entry.message
        head = who
        duplicate = False
        if isinstance(message, GroupDecision | PaymentDecision):
            head = f"{who} {message.version}"
            duplicate = message.version <= versions.get(who, 0)
            versions[who] = max(message.version, versions.get(who, 0))
        for index, (event, text) in enumerate(entry.events(order)):
            shown = printable(text) + (_DUPLICATE if duplicate else "")
            time = day_and_clock(entry.record.timestamp) if index == 0 else ""
            yield Line(entry, event, time, head if index == 0 else "", shown)
