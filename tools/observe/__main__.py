"""Generates the rules and dashboards of deploy/observe; `--check` only compares them: `python -m tools.observe`."""

from __future__ import annotations

from pathlib import Path

from tools import generated_files
from tools.observe.alert import rule_file
from tools.observe.dashboards import dashboard
from tools.observe.dashboards.all_dashboards import DASHBOARDS
from tools.observe.rules import GROUPS

OBSERVE = Path(__file__).parents[2] / "deploy" / "observe"
RULES = OBSERVE / "prometheus" / "rules.yaml"
GRAFANA = OBSERVE / "grafana" / "dashboards"


def files() -> dict[Path, str]:
    """Each generated file and its text."""
    dashboards = {GRAFANA / f"{one.name}.json": dashboard.text(one) for one in DASHBOARDS}
    return {RULES: rule_file(GROUPS), **dashboards}


if __name__ == "__main__":
    raise SystemExit(generated_files.run("Generate the files of deploy/observe.", files, "make docs"))
