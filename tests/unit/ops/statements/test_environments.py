"""Lines of other deployments on the same account are left out of a statement, if ours has an environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.statements import source, stripe_report
from ops.statements.collected import Statement
from ops.statements.movements import Kind, Movement


def statement() -> Statement:
    made = Statement("stripe")
    for hold, environment in (("ours", "live"), ("theirs", "staging"), ("old", "")):
        made.take(Movement("stripe", Kind.CHARGE, hold, 0, "EUR", 100, 3, hold=hold, environment=environment))
    return made


@pytest.mark.parametrize(
    ("environment", "holds"), [("live", {"ours", "old"}), ("", {"ours", "theirs", "old"}), ("other", {"old"})]
)
async def test_only_our_lines_are_compared(monkeypatch: pytest.MonkeyPatch, environment: str, holds: set[str]) -> None:
    monkeypatch.setenv("GROUPBUY_OPS_ENVIRONMENT", environment)
    monkeypatch.setattr(stripe_report, "movements", lambda _path: [])
    monkeypatch.setattr(Statement, "take_all", lambda _self, _movements: statement())
    found = await source.read(source.Source("stripe", Path("report.csv")))
    assert found.entries.keys() == holds
    assert found.totals["EUR"].charged == 300


async def test_an_invalid_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPBUY_OPS_ENVIRONMENT", "not one")
    monkeypatch.setattr(stripe_report, "movements", lambda _path: [])
    with pytest.raises(OpsError, match="GROUPBUY_OPS_ENVIRONMENT"):
        await source.read(source.Source("stripe", Path("report.csv")))
