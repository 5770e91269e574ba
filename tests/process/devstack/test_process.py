"""A real child process: start, kill, freeze, stop, and its end with the supervisor."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.supervision.process import Process
from devstack.supervision.waiting import wait_for
from tests.unit.devstack.fakes import FOR_EVER, alive, python, state

Make = Callable[..., Process]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Process] = []

    def start(code: str, **environment: str) -> Process:
        process = Process(python(code), log=tmp_path / "out.log", cwd=tmp_path, environment=environment)
        made.append(process)
        process.start()
        return process

    yield start
    for process in made:
        process.kill()


def wait_for_output(process: Process, text: str) -> None:
    assert wait_for(lambda: text in process.tail(), timeout_s=10), process.tail()


def test_it_leads_a_session_of_its_own_and_writes_to_its_log(make: Make) -> None:
    process = make("import os; print(os.getsid(0), os.environ['WHO'], os.getcwd())", WHO="me")
    pid = process.pid
    assert process.wait(timeout_s=10)
    assert process.tail().split()[:2] == [str(pid), "me"]
    assert process.code == 0


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace_period(make: Make) -> None:
    process = make(f"import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); {FOR_EVER}")
    wait_for_output(process, "ready")
    process.stop(grace_s=0.2)
    assert process.code == -signal.SIGKILL


def test_a_frozen_process_can_be_stopped_by_sigterm(make: Make) -> None:
    process = make(
        "import signal, sys; signal.signal(15, lambda *_: sys.exit(5)); print('ready', flush=True); signal.pause()"
    )
    wait_for_output(process, "ready")
    process.freeze()
    process.stop(grace_s=10)
    assert process.code == 5


def test_freeze_and_thaw_stop_and_continue_it(make: Make) -> None:
    process = make(FOR_EVER)
    pid = process.pid
    assert pid is not None
    process.freeze()
    assert wait_for(lambda: state(pid) == "T", timeout_s=5)
    process.thaw()
    assert wait_for(lambda: state(pid) != "T", timeout_s=5)
    assert process.running


def test_only_an_unintended_end_is_revived(make: Make) -> None:
    process = make(FOR_EVER)
    first = process.pid
    assert not process.revive()
    process.crash()
    assert process.wait(timeout_s=5)
    assert process.revive()
    assert process.pid not in {None, first}
    process.kill()
    assert not process.revive()
    assert not process.running


def test_a_kill_ends_its_children_too(make: Make) -> None:
    process = make(
        "import subprocess, sys, signal\n"
        f"grandchild = subprocess.Popen([sys.executable, '-c', {FOR_EVER!r}])\n"
        "print(grandchild.pid, flush=True); signal.pause()"
    )
    assert wait_for(lambda: process.tail().isdecimal(), timeout_s=10)
    grandchild = int(process.tail())
    process.kill()
    assert wait_for(lambda: not alive(grandchild), timeout_s=5)


def test_a_missing_command_exits_with_127_and_a_message(tmp_path: Path) -> None:
    process = Process(["no-such-command"], log=tmp_path / "log", cwd=tmp_path)
    process.start()
    assert process.wait(timeout_s=10)
    assert process.code == 127
    assert "cannot run no-such-command" in process.tail()


def test_it_outlives_the_thread_that_started_it(make: Make) -> None:
    made: list[Process] = []
    thread = threading.Thread(target=lambda: made.append(make(f"print('ready', flush=True); {FOR_EVER}")))
    thread.start()
    thread.join()
    wait_for_output(made[0], "ready")
    assert made[0].running


@pytest.mark.parametrize("frozen", [False, True])
def test_it_does_not_outlive_a_killed_supervisor(tmp_path: Path, *, frozen: bool) -> None:
    code = (
        "from pathlib import Path; import signal\n"
        "from devstack.supervision.process import Process; from devstack.supervision.waiting import wait_for\n"
        f"process = Process([{sys.executable!r}, '-c', 'print(1, flush=True); {FOR_EVER}'],"
        f" log=Path({str(tmp_path / 'log')!r}), cwd=Path({str(tmp_path)!r}))\n"
        "process.start()\n"
        "assert wait_for(lambda: process.tail() == '1', timeout_s=10)\n"
        f"process.freeze() if {frozen} else None\n"
        "print(process.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert alive(pid)
        supervisor.kill()
    assert wait_for(lambda: not alive(pid), timeout_s=5)


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(map(str, range(100_000))))
    assert Process(["true"], log=log, cwd=tmp_path).tail(3) == "99997\n99998\n99999"
    assert Process(["true"], log=tmp_path / "none", cwd=tmp_path).tail() == ""
