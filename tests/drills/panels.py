"""Asks Prometheus every query of the dashboards."""

from __future__ import annotations

import math

from tests.drills.prometheus import Prometheus
from tools.observe.dashboards.all_dashboards import DASHBOARDS
from tools.observe.dashboards.dashboard import RATE

#: The range of rates, in place of Grafana's. All traffic of the quiet evening is in it.
RANGE = "2m"


def empty_panels(prometheus: Prometheus) -> list[str]:
    """The panels with a query that has no sample, or only NaN, as `dashboard: title`. HTTP 400 is raised as it is."""
    return [
        f"{board.name}: {panel.title}"
        for board in DASHBOARDS
        for panel in board.panels
        if not all(_has_data(prometheus, query.expr) for query in panel.queries)
    ]


def _has_data(prometheus: Prometheus, expr: str) -> bool:
    samples = prometheus.query(expr.replace(RATE, RANGE))
    return any(not math.isnan(float(one["value"][1])) for one in samples)
