"""The metrics of the console, read when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric as Family

from chassis.telemetry.metrics import metrics_of_console as names
from chassis.telemetry.metrics.metric_families import family

if TYPE_CHECKING:
    from console.app import Console


def console_metrics(console: Console) -> Callable[[], Iterator[Family]]:
    """The collector of a console."""

    def collect() -> Iterator[Family]:
        yield family(names.STREAMS, console.places.taken)
        yield family(names.STREAMS_REFUSED, console.places.refused)
        yield family(names.BEHIND, console.view.behind)

    return collect
