"""`topics wait` tries again until the topics are correct, and reports the last reason at its end."""

from __future__ import annotations

import json

import pytest

from ops.broker import topics
from ops.errors import DOES_NOT_HOLD, OK, OpsError
from ops.main import main


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[int | OpsError]:
    """The results of the checks, one after the other."""
    found: list[int | OpsError] = []

    def at_broker(*_: object, **__: object) -> int:
        answer = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(answer, OpsError):
            raise answer
        return answer

    monkeypatch.setattr(topics, "at_broker", at_broker)
    monkeypatch.setattr(topics, "WAIT_INTERVAL_S", 0)
    monkeypatch.setenv("KAFKA", "h:1")
    return found


def test_it_waits_until_the_topics_are_declared(
    answers: list[int | OpsError], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [OpsError("h:1: missing topics"), OpsError("h:1: no number of partitions is declared"), 64]
    assert main(["topics", "wait", "--seconds", "60", "--json"]) == OK
    printed = capsys.readouterr()
    assert json.loads(printed.out)["partitions"] == 64
    assert printed.err.splitlines() == [
        "waiting: h:1: missing topics",
        "waiting: h:1: no number of partitions is declared",
    ]


def test_at_the_end_it_reports_the_last_reason(
    answers: list[int | OpsError], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [OpsError("h:1: missing topics")]
    assert main(["topics", "wait", "--seconds", "0"]) == DOES_NOT_HOLD
    assert capsys.readouterr().err == "groupbuy-ops: h:1: missing topics\n"
