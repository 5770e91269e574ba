"""The kernel on a real broker: whatever dies and whenever, the log is what an independent fold of the inbox gives.

The long form, with more of everything, is tests/chaos.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from eventlog import crashpoints
from eventlog.topics import create
from tests.chaos.kernel.load import load
from tests.chaos.kernel.refold import compare, read
from tests.chaos.kernel.run import PARTITIONS, chaos, exact, lag
from tests.chaos.kernel.topics import topics
from tests.waiting import wait_for_async

FACTS = 400
#: The second time, where a small load passes a step twice.
PASSES = {"offsets committed": 1}


def _start(kafka: str, tag: str, directory: Path, state: Path, crash_at: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.chaos.kernel.worker", "--kafka", kafka, "--tag", tag]
    command += ["--instance", "w0", "--state-dir", str(state), "--checkpoint", "0.3"]
    with (directory / "worker.log").open("ab") as out:
        environment = {**os.environ, crashpoints.VARIABLE: crash_at}
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)


async def test_kills_freezes_and_late_requests_lose_and_change_nothing(kafka_broker: str, tmp_path: Path) -> None:
    counts = await chaos(
        kafka_broker, facts=20_000, aggregates=2_000, seconds=25, kills=5, freezes=1, seed=3, directory=tmp_path
    )
    assert exact(counts), counts
    assert counts["facts"] >= 20_000
    assert counts["kills"] == 5


@pytest.mark.parametrize("step", crashpoints.STEPS)
async def test_a_crash_at_any_step_leaves_the_log_exact(kafka_broker: str, tmp_path: Path, step: str) -> None:
    tag = uuid4().hex[:12]
    inbox, log = topics(tag)
    await create(kafka_broker, [inbox, log], partitions=PARTITIONS, replication=1)
    await load(kafka_broker, inbox.name, facts=FACTS, aggregates=60, seconds=0.1)

    def start(crash_at: str) -> subprocess.Popen[bytes]:
        return _start(kafka_broker, tag, tmp_path, tmp_path / "state", crash_at)

    # A fold of the log needs a log: the first worker writes one, and leaves no checkpoint behind.
    if step == "changelog folded":
        worker = start("input acknowledged, not committed:2")
    else:
        worker = start(f"{step}:{PASSES.get(step, 2)}")
    try:
        assert worker.wait(40) == -9, (tmp_path / "worker.log").read_text()
        if step == "changelog folded":
            worker = start(f"{step}:1")
            assert worker.wait(40) == -9, (tmp_path / "worker.log").read_text()
        await load(kafka_broker, inbox.name, facts=FACTS, aggregates=60, seconds=0.1, seed=8)
        worker = start("")
        await wait_for_async(lambda: _drained(kafka_broker, inbox.readers[0]), seconds=40)
    finally:
        worker.kill()
        worker.wait()
    counts = compare(await read(kafka_broker, inbox.name, PARTITIONS), await read(kafka_broker, log.name, PARTITIONS))
    assert exact(counts), counts


async def _drained(kafka: str, group: str) -> bool:
    return await lag(kafka, group) == 0


async def test_a_lost_state_directory_loses_nothing(kafka_broker: str, tmp_path: Path) -> None:
    tag = uuid4().hex[:12]
    inbox, log = topics(tag)
    await create(kafka_broker, [inbox, log], partitions=PARTITIONS, replication=1)
    for run in range(2):
        await load(kafka_broker, inbox.name, facts=FACTS, aggregates=60, seconds=0.1, seed=run)
        # Another directory each time: to the worker it is as if the first had been deleted.
        worker = _start(kafka_broker, tag, tmp_path, tmp_path / f"state{run}")
        try:
            await wait_for_async(lambda: _drained(kafka_broker, inbox.readers[0]), seconds=40)
        finally:
            worker.kill()
            worker.wait()
    counts = compare(await read(kafka_broker, inbox.name, PARTITIONS), await read(kafka_broker, log.name, PARTITIONS))
    assert exact(counts), counts
