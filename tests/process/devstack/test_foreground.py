"""Running in the foreground: Ctrl-C cancels or drains, a second one kills. With a real process and real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.supervision.waiting import wait_for
from tests.unit.devstack.fakes import alive, broker

Run = Callable[[str], "subprocess.Popen[str]"]

PROGRAM = """
from pathlib import Path
from devstack import foreground
from devstack.stack import Stack
from tests.unit.devstack.fakes import FOR_EVER, plan
stack = Stack(Path({run_dir!r}), kafka={kafka!r}, plan=plan({plan}), keep_logs=False)
raise SystemExit(foreground.run(stack, lambda: print(*(stack.pid(name) for name in stack.names), flush=True)))
"""
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
BREAKING = (
    "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit('out of luck'));"
    " print(1, flush=True); signal.pause()"
)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started: list[subprocess.Popen[str]] = []
    with broker() as kafka:

        def start(plan: str) -> subprocess.Popen[str]:
            code = PROGRAM.format(run_dir=str(tmp_path / "run"), kafka=kafka, plan=plan)
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            started.append(process)
            return process

        yield start
        for process in started:
            process.kill()
            process.communicate()


def pids(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


def wait_for_output(tmp_path: Path) -> None:
    log = tmp_path / "run" / "logs" / "orders.log"
    assert wait_for(lambda: log.exists() and log.read_text() == "1\n", timeout_s=10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_drains_and_leaves_no_process(run: Run, tmp_path: Path, number: signal.Signals) -> None:
    process = run("orders=FOR_EVER")
    children = pids(process)
    assert len(children) == 2
    process.send_signal(number)
    assert process.wait(timeout=20) == 0
    assert not any(map(alive, children))
    assert not (tmp_path / "run").exists()


def test_a_second_signal_kills_a_process_that_does_not_drain(run: Run, tmp_path: Path) -> None:
    process = run(f"orders={STUBBORN!r}")
    children = pids(process)
    wait_for_output(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130
    assert not any(map(alive, children))


def test_a_signal_during_the_start_cancels_it_and_leaves_no_data(run: Run, tmp_path: Path) -> None:
    process = run("topics=FOR_EVER")
    assert wait_for((tmp_path / "run" / "logs" / "topics.log").exists, timeout_s=20)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    assert not (tmp_path / "run" / "data").exists()


def test_a_closed_terminal_still_drains(run: Run, tmp_path: Path) -> None:
    process = run("orders=FOR_EVER")
    children = pids(process)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == 0
    assert not any(map(alive, children))
    assert not (tmp_path / "run").exists()
    process.stdout = process.stderr = None


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_away_changes_nothing_else(stream: str) -> None:
    read, write = os.pipe()
    os.close(read)
    code = f"import sys; from devstack.foreground import say; say('x', sys.{stream}); say('y', sys.{stream})"
    other = {"stdout": "stderr", "stderr": "stdout"}[stream]
    done = subprocess.run([sys.executable, "-c", code], check=False, **{stream: write, other: subprocess.PIPE})  # type: ignore[call-overload]
    os.close(write)
    assert (done.returncode, getattr(done, other)) == (0, b"")


def test_a_failed_stack_exits_with_1_and_the_reason(run: Run, tmp_path: Path) -> None:
    process = run(f"orders={BREAKING!r}")
    children = pids(process)
    wait_for_output(tmp_path)
    os.kill(children[-1], signal.SIGUSR1)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "orders ended with code 1:\n1\nout of luck" in errors
    assert not any(map(alive, children))
