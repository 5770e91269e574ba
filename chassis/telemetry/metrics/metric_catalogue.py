"""The catalogue of all metrics of all processes.

Every process builds its samples from these entries (metric_families.py), so a metric that is not here can't be served.
`groupbuy-ops metrics` prints the catalogue, and docs/metrics.md is generated from it.
"""

from __future__ import annotations

from types import ModuleType

from chassis.telemetry.metrics import metrics_of_console, metrics_of_services, metrics_of_watch
from chassis.telemetry.metrics.metric import Metric


def _metrics_of(module: ModuleType) -> tuple[Metric, ...]:
    """The metrics that a module defines, in the order of its lines."""
    return tuple(one for one in vars(module).values() if isinstance(one, Metric))


#: Every metric: those of the services, of `groupbuy-ops watch`, and of the console.
CATALOGUE: tuple[Metric, ...] = (
    *_metrics_of(metrics_of_services),
    *_metrics_of(metrics_of_watch),
    *_metrics_of(metrics_of_console),
)
#: The same by name.
BY_NAME: dict[str, Metric] = {one.name: one for one in CATALOGUE}
if len(BY_NAME) != len(CATALOGUE):
    raise RuntimeError("two metrics have one name")
