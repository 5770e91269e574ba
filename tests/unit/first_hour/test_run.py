"""The runner of the steps: results, the last line, the exit code, deadlines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devstack.supervision.waiting import wait_for
from tests.first_hour import run
from tests.first_hour.checkout import Checkout, Deadline, StepFailed, StepSkipped, running
from tests.first_hour.hour import Hour, Step


def good(hour: Hour) -> None:
    hour.checkout.run("sh", "-c", "echo fine", cwd=hour.place).expect(0, "fine")


def bad(hour: Hour) -> None:
    hour.checkout.run("sh", "-c", "echo no such thing; exit 3", cwd=hour.place).expect(0)


def skipped(_hour: Hour) -> None:
    raise StepSkipped("no toolchain")


def steps(*functions: object) -> tuple[Step, ...]:
    return tuple(Step(one.__name__, "what it does", 30, one, installed=False) for one in functions)  # type: ignore[attr-defined,arg-type]


def test_a_failed_step_is_shown_with_its_output_and_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "STEPS", steps(good, bad, skipped))
    assert run.main([]) == 1
    *rows, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == {"steps": 3, "failed": 1, "seconds": json.loads(last)["seconds"]}
    assert [row.split()[0] for row in rows if "what it does" in row] == ["ok", "FAILED", "skipped"]
    assert "    no such thing" in rows
    assert "    no toolchain" in rows


def test_single_steps_can_be_chosen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "STEPS", steps(good, bad))
    assert run.main(["--only", "good"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 1
    with pytest.raises(SystemExit) as ended:
        run.main(["--only", "nothing"])
    assert ended.value.code == 2


def test_a_traceback_fails_a_command_whatever_its_code(tmp_path: Path) -> None:
    ended = Checkout(tmp_path).run("sh", "-c", "echo 'Traceback (most recent call last):'")
    with pytest.raises(StepFailed, match="ended with code 0"):
        ended.expect(0)


def test_a_command_past_its_deadline_is_killed_with_its_children(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.deadline = Deadline(0.5)
    with pytest.raises(StepFailed, match="did not end within"):
        checkout.run("sh", "-c", "sleep 1000 & echo $! > pid; wait")
    pid = int((tmp_path / "pid").read_text())
    assert wait_for(lambda: not running([pid]) or _zombie(pid), timeout_s=5)


def _zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_variables_of_ours_do_not_reach_a_newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GROUPBUY_ORDERS_LISTEN", "KAFKA", "SEED", "PYTHONPATH", "MAKEFLAGS"):
        monkeypatch.setenv(name, "x")
    found = Checkout(tmp_path).environment(EXTRA="1", PATH=None)
    assert found["EXTRA"] == "1"
    assert "x" not in found.values()
    assert "PATH" not in found
