"""Supervision of real processes: which ends are restarted, which stay down, and which fail the system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from devstack.supervision.process import Process
from devstack.supervision.supervisor import Backoff, Supervisor
from devstack.supervision.waiting import wait_for
from tests.unit.devstack.fakes import FOR_EVER, python

Watch = Callable[[str], tuple[Supervisor, Process]]


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def watch(tmp_path: Path, changes: list[str]) -> Iterator[Watch]:
    made: list[tuple[Supervisor, Process]] = []

    def start(code: str) -> tuple[Supervisor, Process]:
        supervisor = Supervisor(lambda: changes.append("changed"), backoff=partial(Backoff, first_s=0.01))
        process = Process(python(code), log=tmp_path / "log", cwd=tmp_path)
        made.append((supervisor, process))
        supervisor.watch("victim", process)
        process.start()
        supervisor.start()
        return supervisor, process

    yield start
    for supervisor, process in made:
        supervisor.stop()
        process.kill()


def starts(process: Process) -> int:
    return process.tail().count("born")


def test_a_process_that_exits_with_70_is_restarted(watch: Watch) -> None:
    supervisor, process = watch("print('born', flush=True); raise SystemExit(70)")
    assert wait_for(lambda: starts(process) >= 3, timeout_s=20)
    assert supervisor.failure is None


def test_a_process_that_somebody_kills_is_restarted(watch: Watch, changes: list[str]) -> None:
    supervisor, process = watch(f"print('born', flush=True); {FOR_EVER}")
    assert wait_for(lambda: starts(process) == 1 and changes == ["changed"], timeout_s=10)
    first = process.pid
    process.crash()
    assert wait_for(lambda: starts(process) == 2, timeout_s=10)
    assert process.pid != first
    assert wait_for(lambda: len(changes) >= 2, timeout_s=5)
    assert supervisor.failure is None


@pytest.mark.parametrize("code", [0, 1, 2])
def test_any_other_exit_is_a_failure_with_the_end_of_the_log(watch: Watch, code: int) -> None:
    supervisor, process = watch(f"print('born, and bad settings', flush=True); raise SystemExit({code})")
    assert wait_for(lambda: supervisor.failure is not None, timeout_s=10)
    assert str(supervisor.failure) == f"victim ended with code {code}:\nborn, and bad settings"
    assert starts(process) == 1


def test_a_process_stopped_on_purpose_stays_down(watch: Watch, changes: list[str]) -> None:
    supervisor, process = watch(f"print('born', flush=True); {FOR_EVER}")
    assert wait_for(lambda: starts(process) == 1 and changes == ["changed"], timeout_s=10)
    process.kill()
    assert wait_for(lambda: len(changes) == 2, timeout_s=10)
    supervisor.stop()
    assert not process.running
    assert supervisor.failure is None


def test_the_back_off_doubles_up_to_a_limit_and_is_reset_by_a_healthy_run() -> None:
    backoff = Backoff()
    assert [round(backoff.after(0.5), 1) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.after(10.0) == 0.1
    assert backoff.after(9.9) == 0.2


def test_a_failed_supervisor_reports_it(watch: Watch, tmp_path: Path) -> None:
    supervisor, process = watch(f"print('born', flush=True); {FOR_EVER}")
    assert wait_for(lambda: starts(process) == 1, timeout_s=10)
    process.log.unlink()
    process.log.mkdir()
    process.crash()
    assert wait_for(lambda: supervisor.failure is not None, timeout_s=10)
    assert "restarts no process any more" in str(supervisor.failure)
