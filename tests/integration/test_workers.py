"""`services.groups --workers N` on a real broker: uneven counts are refused, a killed worker comes back, all drain."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.lifecycle.workers import PORT_STEP
from devstack.kafka.broker import Broker
from devstack.supervision import ports
from devstack.supervision.waiting import wait_for
from groupbuy_settlement import command
from ops.broker.log_creation import create_log

pytestmark = pytest.mark.timeout(300)

PARTITIONS = 4
START_S = 90.0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broker = Broker()
    try:
        broker.start(tmp_path_factory.mktemp("broker"))
        asyncio.run(create_log(broker.bootstrap, partitions=PARTITIONS, default=64, replication=1, who="test"))
        yield broker.bootstrap
    finally:
        broker.release()


class Launcher:
    """The groups service with workers."""

    def __init__(self, kafka: str, directory: Path, *arguments: str) -> None:
        self._first, self._metrics = ports.free_port(), ports.free_port()
        self._log = directory / "log"
        self.state = directory / "state"
        settings = {
            "INSECURE": "true",
            "KAFKA": kafka,
            "LISTEN": f"127.0.0.1:{self._first}",
            "METRICS_LISTEN": f"127.0.0.1:{self._metrics}",
            "STATE_DIR": str(self.state),
            "INSTANCE": "host",
            "DRAIN_SECONDS": "3",
        }
        variables = {f"GROUPBUY_GROUPS_{name}": value for name, value in settings.items()}
        self.process = subprocess.Popen(
            command("services.groups", *arguments),
            env={**os.environ, **variables},
            stdout=self._log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ready(self, number: int) -> bool:
        """Whether a worker serves."""
        url = f"http://127.0.0.1:{self._metrics + PORT_STEP * number}/ready"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait_ready(self, number: int) -> None:
        """Waits until a worker serves."""
        assert wait_for(lambda: self.ready(number), timeout_s=START_S, every_s=0.2), self.text()

    def pids(self) -> dict[int, int]:
        """The newest pid of each worker, from the launcher's log."""
        lines = [line for line in self.text().splitlines() if '"a worker was started"' in line]
        found = [(int(_field(line, "worker")), int(_field(line, "pid"))) for line in lines]
        return dict(found)

    def text(self) -> str:
        """The log of the launcher and its workers."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def release(self) -> None:
        """Kills the launcher; the kernel kills its workers."""
        self.process.kill()
        self.process.wait(timeout=20)
        ports.release(self._first, self._metrics)


def _field(line: str, name: str) -> str:
    return str(json.loads(line)[name])


def test_a_count_that_does_not_divide_the_partitions_ends_with_2(kafka: str, tmp_path: Path) -> None:
    launcher = Launcher(kafka, tmp_path, "--workers", "3")
    try:
        assert launcher.process.wait(timeout=START_S) == 2
        assert "3 workers do not divide 4 partitions" in launcher.text()
        assert "use 1, 2, 4" in launcher.text()
        assert not launcher.state.exists()
    finally:
        launcher.release()


def test_workers_share_the_partitions_and_survive_a_kill(kafka: str, tmp_path: Path) -> None:
    launcher = Launcher(kafka, tmp_path, "--workers", "2")
    try:
        for number in (0, 1):
            launcher.wait_ready(number)
        first = launcher.pids()
        assert first.keys() == {0, 1}
        assert {one.name for one in launcher.state.iterdir()} == {"0", "1"}
        os.kill(first[1], signal.SIGKILL)
        assert wait_for(lambda: launcher.pids()[1] != first[1], timeout_s=30)
        launcher.wait_ready(1)
        assert launcher.pids()[0] == first[0]
        os.killpg(launcher.process.pid, signal.SIGINT)
        assert launcher.process.wait(timeout=60) == 0, launcher.text()[-3000:]
        assert not launcher.ready(0)
    finally:
        launcher.release()
