"""`show`: the history of one group or order, decision by decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import typer
from google.protobuf.message import Message
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from rich.text import Text

from eventlog.core.partitioner import partition_of
from eventlog.records.topic_spec import TopicSpec
from ops.broker.connection import at_broker
from ops.errors import cannot_run
from ops.log.decode import as_object, decode, words
from ops.log.describe import day_and_clock, event_line, fact_line, orders_of
from ops.log.reader import Reader
from ops.output import Json, Output
from ops.printing import printable
from ops.where import Kafka, broker
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_LOG

app = typer.Typer(no_args_is_help=True, help="Prints the history of a group or an order.")

#: In the order of cause and effect, which orders entries of equal times.
HISTORY = (ORDERS, GROUP_LOG, PAYMENT_LOG)
WHO = {ORDERS.name: ("order", "cyan"), GROUP_LOG.name: ("group", "green"), PAYMENT_LOG.name: ("payments", "yellow")}


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a group's history."""

    spec: TopicSpec
    record: Any
    message: Message | None

    def lines(self, order: str | None) -> list[str]:
        """The lines of the entry, about one order or all."""
        message = self.message
        if isinstance(message, OrderFact):
            return [fact_line(message)] if order in {None, message.order} else []
        if isinstance(message, GroupDecision | PaymentDecision):
            return [event_line(event) for event in message.events if order is None or order in orders_of(event)]
        return [words(message, self.record.value)] if order is None else []


@app.command()
def group(name: Annotated[str, typer.Argument(help="groups/{group}")], kafka: Kafka = None, json: Json = False) -> None:
    """Prints a group's orders, decisions and payments.

    Reads the group's partition of the order facts and of both decision logs.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run or there is no such group.

    Example: groupbuy-ops show group groups/5d7c9f3e-0000-4000-8000-000000000001
    """
    _show(broker(kafka), group_key(name), None, Output(json))


@app.command()
def order(
    name: Annotated[str, typer.Argument(help="groups/{group}/orders/{order}")], kafka: Kafka = None, json: Json = False
) -> None:
    """Prints the history of an order: its part of the group's history.

    Reads the group's partition of the order facts and of both decision logs.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run or there is no such order.

    Example: groupbuy-ops show order
    groups/5d7c9f3e-0000-4000-8000-000000000001/orders/5d7c9f3e-0000-4000-8000-000000000002
    """
    match name.split("/"):
        case ["groups", key, "orders", one] if is_id(key) and is_id(one):
            _show(broker(kafka), key, one, Output(json))
        case _:
            raise cannot_run(f"{name!r} is not an order name; expected groups/<uuid>/orders/<uuid> in lower case")


def group_key(name: str) -> str:
    """The key of a group from its name or its id. Raises OpsError."""
    match name.split("/"):
        case ["groups", key] | [key] if is_id(key):
            return key
    raise cannot_run(f"{name!r} is not a group name; expected groups/<uuid> in lower case")


def is_id(text: str) -> bool:
    """Whether a text is a UUID in lower case."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _show(kafka: str, key: str, one: str | None, out: Output) -> None:
    entries = at_broker(kafka, lambda: history(kafka, key))
    about = f"groups/{key}" + (f"/orders/{one}" if one else "")
    shown = list(_lines(entries, one))
    if not shown:
        raise cannot_run(f"{'order' if one else 'group'} not found: the topics at {kafka} have no record of {about}")
    out.show(Text(printable(about), style="bold"))
    for line in shown:
        out.show(line, soft_wrap=True)
    for entry in entries:
        if lines := entry.lines(one):
            out.record({**as_object(entry.spec, entry.record), "text": lines})


async def history(kafka: str, key: str) -> list[Entry]:
    """All records of a group, ordered by time."""
    async with Reader(kafka, [HISTORY[0].name]) as reader:
        partitions = reader.partitions(HISTORY[0].name)
    entries: list[Entry] = []
    specs = {spec.name: spec for spec in HISTORY}

    def take(topic: str, records: list[Any]) -> None:
        wanted = key.encode()
        spec = specs[topic]
        entries.extend(Entry(spec, record, decode(spec, record)) for record in records if record.key == wanted)

    # All records of a group have the same partition number in every topic.
    async with Reader(kafka, list(specs), [partition_of(key, partitions)]) as reader:
        await reader.read_to_end(take)
    place = {spec.name: index for index, spec in enumerate(HISTORY)}
    entries.sort(key=lambda entry: (entry.record.timestamp, place[entry.spec.name], entry.record.offset))
    return entries


def _lines(entries: list[Entry], one: str | None) -> Iterator[Text]:
    versions: dict[str, int] = {}
    for entry in entries:
        who, style = WHO[entry.spec.name]
        message = entry.message
        head = who
        duplicate = False
        if isinstance(message, GroupDecision | PaymentDecision):
            head = f"{who} {message.version}"
            duplicate = message.version <= versions.get(who, 0)
            versions[who] = max(message.version, versions.get(who, 0))
        for index, text in enumerate(entry.lines(one)):
            line = Text()
            line.append(day_and_clock(entry.record.timestamp) if index == 0 else " " * 24, style="dim")
            line.append(f"  {head if index == 0 else '':<14}", style=style)
            line.append(printable(text) + (" (duplicate; identical records are ignored)" if duplicate else ""))
            yield line
