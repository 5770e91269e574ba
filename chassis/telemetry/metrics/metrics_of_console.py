"""The metrics of the console."""

from __future__ import annotations

from chassis.telemetry.metrics.metric import Kind, Metric, Source

STREAMS = Metric(
    "groupbuy_console_streams", Kind.GAUGE, "streams", (), "Open streams of events to browsers.", Source.CONSOLE
)
STREAMS_REFUSED = Metric(
    "groupbuy_console_streams_refused_total",
    Kind.COUNTER,
    "streams",
    (),
    "Streams that were refused because the limit was reached.",
    Source.CONSOLE,
)
BEHIND = Metric(
    "groupbuy_console_behind_records",
    Kind.GAUGE,
    "records",
    (),
    "Records that the console has not folded yet. Its pages are late by as much.",
    Source.CONSOLE,
)
