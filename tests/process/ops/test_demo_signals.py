"""Ctrl-C while the demo starts: a sentence, exit code 130, and no files. Method: a broker that does not answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60.0


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_during_the_start_ends_with_a_sentence(number: signal.Signals, name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}", "TERM": "dumb"}
    command = [sys.executable, "-m", "ops.main", "demo", "--orders", "60", "--kafka", "127.0.0.1:1"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            printed = [next(lines), next(lines)]
            process.send_signal(number)
            printed += lines
            assert process.wait(DEADLINE_S) == 128 + number
        finally:
            process.kill()
    assert printed[1] == "starting, 0 s: waiting for the broker at 127.0.0.1:1 and the creation of topics\n"
    assert printed[-2] == f"{name}: stopping all processes in order; a second signal kills them\n"
    assert printed[-1] == f"Stopped by {name} after 0 of 60 orders. All processes of the demo have ended.\n"
    assert not any(tmp_path.iterdir())
