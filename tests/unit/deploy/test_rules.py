"""The alerts: generated file, metrics that exist, tests with exact texts, and a runbook page each."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ops.commands import app
from tools.observe.__main__ import OBSERVE, files
from tools.observe.alert import THRESHOLD, Alert, Group, Scale, Severity, expression, rule_file
from tools.observe.rules import ALERTS, GROUPS, RECORDS, metrics_of, unknown
from tools.observe.runbook import RUNBOOKS, first_step

RULES = OBSERVE / "prometheus" / "rules.yaml"
RULE_TESTS = OBSERVE / "prometheus" / "rules.test.yaml"
COMMAND = re.compile(r"groupbuy-ops ([a-z-]+)(?: ([a-z-]+))?")
LINK = re.compile(r"\]\(([^)#]+)\)")
pages = pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
alerts = pytest.mark.parametrize("alert", ALERTS.values(), ids=lambda alert: alert.name)


@pytest.mark.parametrize(("path", "text"), files().items(), ids=lambda one: one.name if isinstance(one, Path) else "")
def test_the_files_are_those_that_the_code_generates(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run `make docs`"


@alerts
def test_an_alert_uses_only_metrics_and_labels_of_the_catalogue(alert: Alert) -> None:
    expr = expression(alert)
    assert metrics_of(expr)
    assert unknown(expr) == []
    assert THRESHOLD in alert.expr
    assert THRESHOLD not in expr


def test_recording_rules_use_only_metrics_of_the_catalogue() -> None:
    records = [rule for group in GROUPS for rule in group.rules if rule.name in RECORDS]
    assert len(records) == 2
    assert [unknown(expression(rule)) for rule in records] == [[], []]


def test_an_unknown_metric_label_or_value_is_found() -> None:
    assert unknown("sum by (pod) (rate(groupbuy_gone_total[5m])) > 1") == ["metric groupbuy_gone_total", "label pod"]
    assert unknown('groupbuy_open_holds{colour="red"} > 0') == ["label colour of groupbuy_open_holds"]
    assert unknown('groupbuy_open_holds{older_than="2d"} > 0') == ["older_than=2d"]
    assert unknown("groupbuy_batches_in_flight_bucket") == ["metric groupbuy_batches_in_flight_bucket"]
    assert unknown("a > 0 and on (job) up") == ["metric a"]


@alerts
def test_an_alert_has_a_measured_reason_and_complete_texts(alert: Alert) -> None:
    assert re.search(r"\d|`make [a-z-]+`", alert.measured)
    for text in (alert.summary, alert.impact, alert.cause, alert.action):
        assert text
        assert "\n" not in text
    assert alert.severity in Severity
    if "absent(" in alert.expr:
        assert alert.for_s >= 60, "a restart of Prometheus would fire it"


def test_a_scaled_rule_file_has_shorter_times_and_the_thresholds_of_drills() -> None:
    alert = Alert(
        name="A",
        severity=Severity.WARNING,
        expr="rate(a_total[5m]) > THRESHOLD and rate(a_total[1h]) > THRESHOLD",
        threshold=900,
        drill_threshold=9,
        measured="1",
        summary="s",
        impact="i",
        cause="c",
        action="a",
        for_s=90,
    )
    text = rule_file([Group("g", (alert,))], Scale(divisor=60, interval_ms=500, min_range_ms=6_000))
    assert "interval: 500ms" in text
    assert "rate(a_total[6s]) > 9 and rate(a_total[1m]) > 9" in text
    assert "for: 1500ms" in text
    assert "rate(a_total[5m]) > 900" in rule_file([Group("g", (alert,))])


def test_every_alert_has_one_test_and_no_other_alert_has() -> None:
    tested = re.findall(r"^    alertname: (\w+)$", RULE_TESTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(tested) == sorted(ALERTS)


def test_promtool_accepts_the_rules_and_their_tests() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: `apt-get install prometheus` has it")
    for command in (["check", "rules", RULES.name], ["check", "config", "prometheus.yaml"]):
        subprocess.run([promtool, *command], cwd=RULES.parent, check=True, capture_output=True)
    done = subprocess.run(
        [promtool, "test", "rules", RULE_TESTS.name], cwd=RULES.parent, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_every_alert_has_a_runbook_and_no_other_page_is_there() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {*ALERTS, "README"}
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|$", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    assert listed == [(one.name, one.name, str(one.severity)) for one in ALERTS.values()]


@alerts
def test_a_runbook_has_a_first_command_with_its_exit_codes(alert: Alert) -> None:
    text = (RUNBOOKS / f"{alert.name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert.name}\n")
    for heading in ("## First", "## Then", "## It ends"):
        assert heading in text
    step = first_step(alert.name)
    assert step.command
    assert step.codes
    for query in re.findall(r"'([^']*groupbuy_[^']*|[^']*grpc_server[^']*)'", step.command):
        assert unknown(query) == []


@pages
def test_a_runbook_names_only_commands_and_pages_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = {
        command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands
    }
    groups = {group.name: group for group in app.registered_groups}
    for name, second in COMMAND.findall(text):
        assert name in known | groups.keys(), name
        if name in groups and second:
            inner = groups[name].typer_instance
            assert inner is not None
            assert second in {
                one.name or (one.callback.__name__ if one.callback else "") for one in inner.registered_commands
            }
    for link in LINK.findall(text):
        assert (page.parent / link).exists(), link
