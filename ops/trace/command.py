"""`trace`: the trace of a group or an order, from the log alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eventlog.core.partitioner import partition_of
from ops.broker.connection import at_broker
from ops.errors import cannot_run
from ops.log.reader import Reader
from ops.log.show import is_id
from ops.terminal.output import Json, Output
from ops.trace import attributes, svg, terminal
from ops.trace.span import Span
from ops.trace.spans import SpanBuilder
from ops.trace.step import TOPICS
from ops.trace.timeline import subtree
from ops.where import Kafka, broker


def trace(
    name: Annotated[str, typer.Argument(help="groups/{group} or groups/{group}/orders/{order}")],
    svg_file: Annotated[Path | None, typer.Option("--svg", help="Also write a picture to this file.")] = None,
    kafka: Kafka = None,
    json: Json = False,
) -> None:
    """Draws the trace of a group or an order: which step took how long in which service.

    Every record names its cause, so the trace is complete without a tracing backend, sampled or not. A span begins with
    the record that caused it and ends with its own, by the broker's clock; a call of the provider has its own times.

    Reads the group's partition of the order facts, of both inboxes and of both decision logs.

    Changes nothing at the broker; with --svg it writes the file.

    Exit codes: 0 done, 2 cannot run or there is no such group or order.

    Example: groupbuy-ops trace groups/5d7c9f3e-0000-4000-8000-000000000001 --svg trace.svg
    """
    group, order = _parsed(name)
    out = Output(json)
    address = broker(kafka)
    spans = at_broker(address, lambda: spans_of(address, group))
    if order:
        spans = subtree(spans, order, attributes.ORDER)
    about = f"groups/{group}" + (f"/orders/{order}" if order else "")
    if not spans:
        raise cannot_run(
            f"{'order' if order else 'group'} not found: the topics at {address} have no record of {about}"
        )
    for span in spans:
        out.record(span.as_object())
    out.show(terminal.table(about, spans), soft_wrap=True)
    if waits := terminal.waits(spans):
        out.line(f"left out: {', '.join(waits)} of waiting (┊)")
    if svg_file is not None:
        try:
            svg_file.write_text(svg.picture(about, spans), encoding="utf-8")
        except OSError as error:
            raise cannot_run(f"can't write {svg_file}: {error.strerror}") from error
        out.note(f"wrote {svg_file}")


def _parsed(name: str) -> tuple[str, str]:
    """The ids of a group and of an order, which is empty for a whole group. Raises OpsError."""
    match name.split("/"):
        case ["groups", group] | [group] if is_id(group):
            return group, ""
        case ["groups", group, "orders", order] if is_id(group) and is_id(order):
            return group, order
    raise cannot_run(
        f"{name!r} is no name of a group or an order; expected groups/<uuid>[/orders/<uuid>] in lower case"
    )


async def spans_of(kafka: str, group: str) -> list[Span]:
    """All spans of a group."""
    async with Reader(kafka, [TOPICS[0].name]) as reader:
        partitions = reader.partitions(TOPICS[0].name)
    records: list[tuple[int, int, str, Any]] = []
    place = {spec.name: index for index, spec in enumerate(TOPICS)}

    def take(topic: str, found: list[Any]) -> None:
        wanted = group.encode()
        records.extend((record.timestamp, place[topic], topic, record) for record in found if record.key == wanted)

    # All records of a group have the same partition number in every topic.
    async with Reader(kafka, list(place), [partition_of(group, partitions)]) as reader:
        await reader.read_to_end(take)
    records.sort(key=lambda one: (one[0], one[1], one[3].offset))
    builder = SpanBuilder(max_remembered=len(records) * 4 + 1)
    spans = [span for _, _, topic, record in records for span in builder.take(topic, record)]
    return spans + builder.flush()
