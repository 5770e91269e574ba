"""`metrics`: the catalogue of metrics."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from chassis.telemetry.metrics.metric import LABELS, Metric
from chassis.telemetry.metrics.metric_catalogue import CATALOGUE
from ops.errors import cannot_run
from ops.terminal.output import Json, Output


def metrics(
    name: Annotated[str | None, typer.Argument(help="Only metrics with this text in their name.")] = None,
    json: Json = False,
) -> None:
    """Prints every metric with its type, unit, labels and meaning.

    The services serve theirs at METRICS_LISTEN, `groupbuy-ops watch` serves its own. docs/metrics.md has the same.

    Reads nothing.

    Changes nothing.

    Exit codes: 0 printed, 2 no metric has the name.

    Example: groupbuy-ops metrics provider
    """
    found = [one for one in CATALOGUE if name is None or name in one.name]
    if not found:
        raise cannot_run(f"no metric has {name!r} in its name: `groupbuy-ops metrics` prints all")
    out = Output(json)
    for one in found:
        out.record(record(one))
    table = Table("name", "type", "unit", "labels", "served by", "meaning", show_lines=True)
    for one in found:
        table.add_row(one.name, one.kind, one.unit, "\n".join(one.labels), one.source, one.meaning)
    out.show(table)


def record(metric: Metric) -> dict[str, object]:
    """A metric as JSON. `labels` has the values of each."""
    found: dict[str, object] = asdict(metric)
    found["labels"] = {label: LABELS[label] for label in metric.labels}
    if not metric.buckets:
        del found["buckets"]
    return found
