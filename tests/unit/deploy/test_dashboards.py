"""The dashboards: their JSON, and that queries use only metrics and labels of the catalogue."""

from __future__ import annotations

import json
import re

import pytest

from chassis.telemetry.metrics.metric_catalogue import CATALOGUE
from tools.observe.__main__ import GRAFANA
from tools.observe.dashboards.all_dashboards import DASHBOARDS
from tools.observe.dashboards.dashboard import RATE, Dashboard, Panel, text
from tools.observe.rules import RECORDS, metrics_of, unknown

LEGEND_LABEL = re.compile(r"\{\{(\w+)\}\}")
PANELS = [(board, panel) for board in DASHBOARDS for panel in board.panels]
panels = pytest.mark.parametrize(("board", "panel"), PANELS, ids=[f"{one.name}: {two.title}" for one, two in PANELS])


@panels
def test_a_panel_uses_only_metrics_and_labels_of_the_catalogue(board: Dashboard, panel: Panel) -> None:
    assert panel.description.endswith(".")
    for query in panel.queries:
        expr = query.expr.replace(RATE, "5m")
        assert metrics_of(expr)
        assert unknown(expr) == []
        assert expr.count("(") == expr.count(")")


@panels
def test_the_labels_of_a_legend_are_those_of_the_result(board: Dashboard, panel: Panel) -> None:
    for query in panel.queries:
        grouped = re.findall(r"\bby \(([^)]*)\)", query.expr)
        for label in LEGEND_LABEL.findall(query.legend):
            if grouped:
                assert label in re.findall(r"\w+", grouped[0]), query
            elif not RECORDS & set(metrics_of(query.expr)):
                known = {"job", "instance", *_labels_of(query.expr)}
                assert label in known, query


def _labels_of(expr: str) -> set[str]:
    names = set(metrics_of(expr.replace(RATE, "5m")))
    return {label for metric in CATALOGUE if metric.name in names for label in metric.labels}


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda one: one.name)
def test_a_dashboard_has_no_two_panels_at_one_place(board: Dashboard) -> None:
    made = json.loads(text(board))
    assert made["uid"] == f"groupbuy-{board.name}"
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in made["panels"]]
    assert len(set(places)) == len(board.panels)
    assert all(x in {0, 8, 16} for x, _ in places)
    assert len({one["id"] for one in made["panels"]}) == len(board.panels)


def test_the_folder_has_the_six_dashboards_and_no_other_file() -> None:
    assert {path.stem for path in GRAFANA.iterdir()} == {one.name for one in DASHBOARDS}
    assert [one.name for one in DASHBOARDS] == ["overview", "api", "kernel", "money", "provider", "capacity"]
