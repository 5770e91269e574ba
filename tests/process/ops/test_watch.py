"""`groupbuy-ops watch` as a process: it serves while the broker is away, and ends with its workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.supervision.waiting import wait_for

PATIENCE_S = 60.0
#: Nothing listens there.
NOBODY = "127.0.0.1:1"


class Watch:
    """A watch without a broker."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "log"
        command = [sys.executable, "-m", "ops.main", "watch", "--kafka", NOBODY, "--listen", "127.0.0.1:0"]
        command += ["--state", str(directory / "state"), "--workers", "2"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        assert wait_for(lambda: "metrics and probes at" in self.log(), timeout_s=PATIENCE_S), self.log()
        self.url = next(line["event"] for line in self.lines() if "metrics and" in line["event"]).split()[-1]

    def log(self) -> str:
        return self._log.read_text()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def workers(self) -> list[int]:
        """Process ids of the workers, without Python's resource tracker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    made = Watch(tmp_path)
    yield made
    made.process.kill()
    made.process.wait(PATIENCE_S)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_it_serves_while_the_broker_is_away_and_ends_with_its_workers(watch: Watch) -> None:
    assert watch.get("/live")[0] == 200
    status, text = watch.get("/ready")
    assert status == 503
    assert json.loads(text)["ready"] is False
    status, text = watch.get("/metrics")
    assert status == 200
    assert "groupbuy_build_info{" in text
    assert "groupbuy_watch_behind_records 0.0" in text
    assert "groupbuy_unsettled_groups" not in text
    assert wait_for(lambda: "the logs can't be read, retrying" in watch.log(), timeout_s=PATIENCE_S)
    assert "the groups' progress can't be read, retrying" in watch.log()
    workers = watch.workers()
    assert len(workers) == 2
    watch.process.send_signal(signal.SIGTERM)
    assert watch.process.wait(PATIENCE_S) == 0
    assert wait_for(lambda: all(gone(pid) for pid in workers), timeout_s=PATIENCE_S)
    assert "Traceback" not in watch.log()


def test_a_worker_that_ends_is_started_again(watch: Watch) -> None:
    assert wait_for(lambda: len(watch.workers()) == 2, timeout_s=PATIENCE_S)
    first = watch.workers()
    os.kill(first[0], signal.SIGKILL)
    assert wait_for(lambda: len(set(watch.workers()) - set(first)) == 1, timeout_s=PATIENCE_S)
    assert "worker 0 ended with code -9; starting it again" in watch.log()


def test_workers_end_after_their_parent_was_killed(watch: Watch) -> None:
    assert wait_for(lambda: len(watch.workers()) == 2, timeout_s=PATIENCE_S)
    workers = watch.workers()
    watch.process.kill()
    watch.process.wait(PATIENCE_S)
    assert wait_for(lambda: all(gone(pid) for pid in workers), timeout_s=PATIENCE_S)
