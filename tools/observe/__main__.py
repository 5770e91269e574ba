"""Generates the rules and dashboards of deploy/observe; `--check` only compares them: `python -m tools.observe`."""

from __future__ import annotations

from pathlib import Path

from tools import generated_files
from tools.observe.alert import rule_file
from tools.observe.rules import GROUPS

OBSERVE = Path(__file__).parents[2] / "deploy" / "observe"
RULES = OBSERVE / "prometheus" / "rules.yaml"


def files() -> dict[Path, str]:
    """Each generated file and its text."""
    return {RULES: rule_file(GROUPS)}


if __name__ == "__main__":
    raise SystemExit(generated_files.run("Generate the files of deploy/observe.", files, "make docs"))
