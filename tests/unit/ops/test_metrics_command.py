"""`groupbuy-ops metrics` and the page of metrics, against the catalogue."""

from __future__ import annotations

import json

import pytest

from chassis.telemetry.metrics.metric import LABELS, Source
from chassis.telemetry.metrics.metric_catalogue import BY_NAME, CATALOGUE
from docs import metrics_table
from ops.main import main


def test_it_prints_every_metric_with_type_unit_labels_and_meaning_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["name"] for one in found] == [one.name for one in CATALOGUE]
    for one in found:
        metric = BY_NAME[one["name"]]
        assert (one["kind"], one["unit"], one["meaning"]) == (metric.kind, metric.unit, metric.meaning)
        assert one["labels"] == {label: LABELS[label] for label in metric.labels}


def test_it_prints_a_table_of_the_metrics_whose_name_has_a_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["metrics", "circuit"]) == 0
    table = capsys.readouterr().out
    assert "groupbuy_provider_circuit_open" in table
    assert "groupbuy_suspense_minor" not in table


def test_a_text_that_no_name_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "nothing_like_it"]) == 2
    assert "no metric has 'nothing_like_it' in its name" in capsys.readouterr().err


def test_the_page_has_a_row_for_every_metric_in_the_section_of_its_process() -> None:
    sections = metrics_table.page().split("\n## ")[1:]
    assert len(sections) == len(Source) + 1
    for source, section in zip(Source, sections, strict=False):
        rows = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}
        assert rows == {one.name for one in CATALOGUE if one.source is source}
