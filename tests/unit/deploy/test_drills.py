"""The drills: one for each alert, and the shorter times that they use."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.drills.drill import DRILLS
from tests.drills.prometheus import SCALE, Prometheus
from tests.drills.run import MODULES
from tools.observe.alert import expression
from tools.observe.rules import ALERTS


def test_every_alert_has_exactly_one_drill() -> None:
    drilled = [alert for drill in DRILLS for alert in drill.alerts]
    assert sorted(drilled) == sorted(ALERTS)
    assert {drill.fault.__module__ for drill in DRILLS} == set(MODULES)


def test_a_drill_says_what_it_causes() -> None:
    assert [drill.name for drill in DRILLS if not drill.fault.__doc__] == []


def test_a_threshold_for_drills_is_as_strict_as_the_alert_allows() -> None:
    for alert in ALERTS.values():
        if alert.drill_threshold is not None:
            assert alert.drill_threshold < alert.threshold
            assert f"{alert.drill_threshold:g}" in expression(alert, SCALE)


def test_prometheus_accepts_the_faster_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: `apt-get install prometheus` has it")
    Prometheus(tmp_path)
    config = (tmp_path / "prometheus.yaml").read_text(encoding="utf-8")
    assert "15s" not in config
    rules = (tmp_path / "rules.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"interval: (\w+)", rules)) == {"500ms"}
    assert not re.search(r"\[\d+[mh]\]", rules.replace("[1m]", ""))
    done = subprocess.run(
        [promtool, "check", "config", "prometheus.yaml"], cwd=tmp_path, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
