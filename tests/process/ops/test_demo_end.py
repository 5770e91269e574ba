"""The end of the demo while it starts, by a signal or a closed pipe. Method: a broker that does not answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60.0
START = "starting, 0 s: waiting for the broker at 127.0.0.1:1 and the creation of topics\n"


@contextmanager
def starting_demo(directory: Path, stderr: int) -> Iterator[tuple[subprocess.Popen[str], Iterator[str]]]:
    """The demo and its further lines, once it waits for the broker."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}", "TERM": "dumb"}
    command = [sys.executable, "-m", "ops.main", "demo", "--orders", "60", "--kafka", "127.0.0.1:1"]
    with subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            assert next(lines).startswith("The script has 60 orders")
            assert next(lines) == START
            yield process, lines
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_during_the_start_ends_with_a_sentence(number: signal.Signals, name: str, tmp_path: Path) -> None:
    with starting_demo(tmp_path, subprocess.STDOUT) as (process, lines):
        process.send_signal(number)
        *_, first, last = lines
        assert process.wait(DEADLINE_S) == 128 + number
    assert first == f"{name}: stopping all processes in order; a second signal kills them\n"
    assert last == f"Stopped by {name} after 0 of 60 orders. All processes of the demo have ended.\n"
    assert not any(tmp_path.iterdir())


def test_a_closed_pipe_ends_the_demo_quietly(tmp_path: Path) -> None:
    with starting_demo(tmp_path, subprocess.PIPE) as (process, _):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(DEADLINE_S) == 0
    assert not any(tmp_path.iterdir())
