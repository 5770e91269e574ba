"""`tail`: prints the records of one topic, decoded."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from eventlog.records.topic_spec import TopicSpec
from ops import completion
from ops.broker.connection import at_broker
from ops.errors import cannot_run
from ops.log.reader import Reader
from ops.log.rendering.decode import as_object, line
from ops.terminal.output import Json, Output
from ops.where import Kafka, broker
from shared_kernel.topics import ALL


def spec_of(topic: str) -> TopicSpec:
    """The specification of a topic. Raises OpsError."""
    for spec in ALL:
        if spec.name == topic:
            return spec
    raise cannot_run(f"no topic {topic}: `groupbuy-ops topics list` has them all")


def tail(
    topic: Annotated[str, typer.Argument(help="Name of the topic.", autocompletion=completion.topics)],
    kafka: Kafka = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start at the first record.")] = False,
    key: Annotated[str | None, typer.Option(help="Print only records of this group or campaign.")] = None,
    json: Json = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="At the end, wait for new records.")] = True,
) -> None:
    """Prints the records of a topic, decoded, and waits for new ones until Ctrl-C.

    Reads the topic, without a consumer group.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run or there is no such topic, 130 Ctrl-C.

    Example: groupbuy-ops tail groups.group.v1 --from-beginning --no-follow
    """
    spec = spec_of(topic)
    wanted = key.removeprefix("groups/").removeprefix("campaigns/").encode() if key else None
    address, out = broker(kafka), Output(json)

    def print_(records: list[Any]) -> int:
        shown = [record for record in records if wanted is None or record.key == wanted]
        for record in shown:
            if json:
                out.record(as_object(spec, record))
            else:
                out.line(line(spec, record))
        return len(shown)

    async def run() -> None:
        count = 0

        def take(_topic: str, records: list[Any]) -> None:
            nonlocal count
            count += print_(records)

        async with Reader(address, [spec.name]) as reader:
            if not from_beginning:
                await reader.seek_to_end()
            await reader.read_to_end(take)
            if not follow and not count:
                out.note(f"no records in {topic}" + (f" of {key}" if key else ""))
            if follow:
                async for record in reader.follow():
                    print_([record])

    # Not watched while it follows: Kafka's client connects again when the broker is back.
    at_broker(address, run, watched=not follow)
