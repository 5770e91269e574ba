"""The supervision of workers with real processes: restarts, one stop for all, exit codes, and no orphans."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.supervision.waiting import wait_for

#: A worker: writes its pid, then waits for a signal and ends with the code of its variable.
WORKER = """
import os, pathlib, signal, sys, time
path = pathlib.Path(os.environ["PLACE"])
def end(*_): sys.exit(int(os.environ["CODE"]))
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, lambda *_: os._exit(99))
with path.open("a") as file: file.write(f"{os.getpid()}\\n")
if os.environ.get("AT_ONCE"): sys.exit(int(os.environ["AT_ONCE"]))
while True: signal.pause()
"""
LAUNCHER = """
import json, sys
from chassis.lifecycle.workers import Supervision
workers = [((sys.executable, "-c", sys.argv[1]), variables) for variables in json.loads(sys.argv[2])]
sys.exit(Supervision(workers, stop_within_s=float(sys.argv[3])).run())
"""


class Launched:
    """A launcher with workers that only wait."""

    def __init__(self, directory: Path, *variables: dict[str, str], stop_within_s: float = 20.0) -> None:
        self._places = [directory / str(number) for number in range(len(variables))]
        given = [{"CODE": "0", "PLACE": str(place), **one} for place, one in zip(self._places, variables, strict=True)]
        command = [sys.executable, "-c", LAUNCHER, WORKER, json.dumps(given), str(stop_within_s)]
        self.process = subprocess.Popen(command, start_new_session=True)

    def pids(self, number: int) -> list[int]:
        """All pids that a worker has had."""
        place = self._places[number]
        return [int(line) for line in place.read_text().splitlines()] if place.exists() else []

    def wait_started(self, number: int, times: int = 1) -> int:
        """Waits until a worker has started so many times. Returns its pid."""
        assert wait_for(lambda: len(self.pids(number)) >= times, timeout_s=30)
        return self.pids(number)[-1]

    def end(self) -> int:
        """Waits for the launcher's end. Returns its exit code."""
        return self.process.wait(timeout=30)


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[list[Launched]]:
    """Launchers that are killed at the end."""
    made: list[Launched] = []
    yield made
    for one in made:
        one.process.kill()
        one.process.wait()


def alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_all_workers_once(tmp_path: Path, launched: list[Launched], end: signal.Signals) -> None:
    launched.append(one := Launched(tmp_path, {}, {}))
    pids = [one.wait_started(number) for number in (0, 1)]
    # As a terminal does: to the whole group of the launcher.
    os.killpg(one.process.pid, end)
    assert one.end() == 0
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("code", ["70", "1", "0"])
def test_the_highest_code_of_the_workers_is_kept(tmp_path: Path, launched: list[Launched], code: str) -> None:
    launched.append(one := Launched(tmp_path, {"CODE": code}, {}))
    for number in (0, 1):
        one.wait_started(number)
    one.process.terminate()
    assert one.end() == int(code)


def test_a_worker_that_dies_is_restarted_and_the_others_stay(tmp_path: Path, launched: list[Launched]) -> None:
    launched.append(one := Launched(tmp_path, {}, {}))
    first, second = (one.wait_started(number) for number in (0, 1))
    os.kill(first, signal.SIGKILL)
    assert one.wait_started(0, times=2) != first
    # A worker that is stopped alone comes back too, for instance with another version.
    os.kill(one.pids(0)[-1], signal.SIGTERM)
    one.wait_started(0, times=3)
    assert alive(second)
    assert len(one.pids(1)) == 1


def test_restarts_get_rarer(tmp_path: Path, launched: list[Launched]) -> None:
    launched.append(one := Launched(tmp_path, {"AT_ONCE": "70"}))
    one.wait_started(0, times=4)
    # After 0.2, 0.4 and 0.8 s comes a pause of 1.6 s: the fifth start is not there at once.
    assert len(one.pids(0)) == 4
    one.process.terminate()
    assert one.end() == 70


def test_a_wrong_setting_of_one_stops_all_with_2(tmp_path: Path, launched: list[Launched]) -> None:
    launched.append(one := Launched(tmp_path, {"AT_ONCE": "2"}, {}))
    assert one.end() == 2
    assert not any(alive(pid) for pid in one.pids(1))


def test_a_frozen_worker_is_killed(tmp_path: Path, launched: list[Launched]) -> None:
    launched.append(one := Launched(tmp_path, {}, stop_within_s=0.5))
    os.kill(one.wait_started(0), signal.SIGSTOP)
    one.process.terminate()
    assert one.end() == 128 + signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at a parent's death is Linux's")
def test_workers_do_not_outlive_a_killed_launcher(tmp_path: Path, launched: list[Launched]) -> None:
    launched.append(one := Launched(tmp_path, {}, {}))
    pids = [one.wait_started(number) for number in (0, 1)]
    one.process.kill()
    assert wait_for(lambda: not any(alive(pid) for pid in pids), timeout_s=10)
