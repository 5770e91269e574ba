"""Grafana dashboards as JSON for its provisioning, from lists of panels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: The range of rates in Grafana: at least four scrapes. A query outside Grafana replaces it.
RATE = "$__rate_interval"
_WIDTH, _COLUMNS = 8, 24
_HEIGHT = 8
_SCHEMA = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Unit(StrEnum):
    """Units as Grafana names them."""

    NONE = "short"
    SECONDS = "s"
    PER_SECOND = "reqps"
    RECORDS_PER_SECOND = "cps"
    SHARE = "percentunit"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Query:
    """A query in PromQL, and the legend of its series."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph of one or more queries."""

    title: str
    #: The meaning, and the value that needs attention.
    description: str
    unit: Unit
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Panels in rows of three."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def panel(title: str, description: str, unit: Unit, *queries: tuple[str, str]) -> Panel:
    """A panel with pairs of expression and legend."""
    return Panel(title, description, unit, tuple(Query(*one) for one in queries))


def p99(bucket: str, by: str, matchers: str = "") -> str:
    """The 99th percentile of a histogram by some labels."""
    return f"histogram_quantile(0.99, sum by (le, {by}) (rate({bucket}{matchers}[{RATE}])))"


def text(dashboard: Dashboard) -> str:
    """The JSON of a dashboard."""
    panels = [_panel(one, at) for at, one in enumerate(dashboard.panels)]
    made = {
        "uid": f"groupbuy-{dashboard.name}",
        "title": f"Group buying / {dashboard.title}",
        "tags": ["groupbuy"],
        "schemaVersion": _SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "source"}]
        },
        "links": [{"type": "dashboards", "tags": ["groupbuy"], "title": "Group buying", "asDropdown": True}],
        "panels": panels,
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _panel(one: Panel, at: int) -> dict[str, Any]:
    x, y = at * _WIDTH % _COLUMNS, at * _WIDTH // _COLUMNS * _HEIGHT
    return {
        "id": at + 1,
        "type": "timeseries",
        "title": one.title,
        "description": one.description,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": str(one.unit), "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": _targets(one.queries),
    }


def _targets(queries: Sequence[Query]) -> list[dict[str, Any]]:
    return [
        {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": one.expr, "legendFormat": one.legend}
        for at, one in enumerate(queries)
    ]
