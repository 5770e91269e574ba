"""The demo in a pipe: plain lines and exit code 0; after Ctrl-C a sentence, exit code 130, and no process left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.product import CONSOLE, WITH_CONSOLE
from devstack.stack import Stack

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0


@contextmanager
def running_demo(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo with 60 orders, started in this directory."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}"}
    command = [sys.executable, "-m", "ops.main", "demo", "--orders", "60"]
    with subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_the_demo_in_a_pipe_ends_with_zero_differences(tmp_path: Path) -> None:
    with running_demo(tmp_path) as process:
        text, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert re.search(r"^starting, \d+ s: waiting for ", text, re.MULTILINE)
    assert re.search(r"^00:\d\d orders arrive: \d+ of 60 orders; groups: ", text, re.MULTILINE)
    assert re.search(r"^orders placed +60$", text, re.MULTILINE)
    assert "Zero differences: every order has one final state, every amount is accounted for.\n" in text
    assert text.endswith("This command opens them:\n  make up KEEP=1 UP='--run-dir .run/evening'\n")
    assert [one.name for one in (tmp_path / ".run").iterdir()] == ["evening"]
    stories = re.findall(r"^    http://127\.0\.0\.1:15060(/groups/[0-9a-f-]{36})$", text, re.MULTILINE)
    assert len(stories) >= 2
    run_dir = tmp_path / ".run" / "evening"
    with Stack(run_dir, data=run_dir / "kept", keep_data=True, plan=WITH_CONSOLE) as stack:
        for path in stories:
            assert page(f"http://{stack.endpoints[CONSOLE]}{path}").count('<li class="line ') > 5


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return str(answer.read().decode())


def test_ctrl_c_in_the_middle_stops_everything(tmp_path: Path) -> None:
    with running_demo(tmp_path) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        next(line for line in lines if " orders arrive: " in line)
        (record,) = tmp_path.glob(".run/demo-*/stack.json")
        pids = json.loads(record.read_text())["pids"]
        process.send_signal(signal.SIGINT)
        rest = list(lines)
        assert process.wait(DEADLINE_S) == 130
    assert rest[-2] == "Ctrl-C: stopping all processes in order; a second signal kills them\n"
    sentence = r"Stopped by Ctrl-C after \d+ of 60 orders\. All processes of the demo have ended\.\n"
    assert re.fullmatch(sentence, rest[-1])
    assert {"broker", "provider", "orders", "groups", "payments"} <= pids.keys()
    assert not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]
    assert not any(tmp_path.iterdir())
