"""Reads the first step of a runbook page: its command, and the exit codes that the page promises."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
_COMMAND = re.compile(r"## First\n\n```sh\n(.+)\n```\n\nExits with (\d+(?:(?:, | or )\d+)*)")


@dataclass(frozen=True, slots=True)
class FirstStep:
    """The first command of a runbook, and the exit codes that it may have while the alert fires."""

    command: str
    codes: frozenset[int]


def first_step(alert: str) -> FirstStep:
    """The first step of an alert's runbook. Raises ValueError if the page has none."""
    page = RUNBOOKS / f"{alert}.md"
    found = _COMMAND.search(page.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{page} has no first command with its exit codes")
    return FirstStep(found[1], frozenset(int(code) for code in re.findall(r"\d+", found[2])))
