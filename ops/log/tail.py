"""`tail`: prints the records of one topic, decoded."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from eventlog.records.topic_spec import TopicSpec
from ops.errors import USAGE, OpsError
from ops.log.decode import as_json, line
from ops.log.reader import Reader
from ops.printing import echo
from ops.where import Kafka, broker
from shared_kernel.topics import ALL


def spec_of(topic: str) -> TopicSpec:
    """The specification of a topic. Raises OpsError."""
    for spec in ALL:
        if spec.name == topic:
            return spec
    raise OpsError(f"no topic {topic}: `groupbuy-ops topics list` has them all", USAGE)


def tail(
    topic: Annotated[str, typer.Argument(help="Name of the topic.")],
    kafka: Kafka = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start at the first record.")] = False,
    key: Annotated[str | None, typer.Option(help="Print only records of this group or campaign.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per record.")] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="At the end, wait for new records.")] = True,
) -> None:
    """Prints the records of a topic, decoded, and waits for new ones until Ctrl-C."""
    spec = spec_of(topic)
    wanted = key.removeprefix("groups/").removeprefix("campaigns/").encode() if key else None
    asyncio.run(_tail(broker(kafka), spec, wanted, from_beginning, json, follow))


async def _tail(
    kafka: str, spec: TopicSpec, key: bytes | None, from_beginning: bool, as_object: bool, follow: bool
) -> None:
    show = as_json if as_object else line

    def print_(records: list[Any]) -> None:
        for record in records:
            if key is None or record.key == key:
                echo(show(spec, record))

    async with Reader(kafka, [spec.name]) as reader:
        if not from_beginning:
            await reader.seek_to_end()
        await reader.read_to_end(lambda _topic, records: print_(records))
        if follow:
            async for record in reader.follow():
                print_([record])
