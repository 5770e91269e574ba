"""The frame of a benchmark: its folders, its worker processes, and the last line that it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def worker_parser() -> ArgumentParser:
    """The arguments of a worker that runs a processor."""
    parser = ArgumentParser()
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    return parser


def worker_command(module: str, kafka: str, partitions: int, state: Path | str) -> list[str]:
    """The command of a worker with these arguments."""
    command = [sys.executable, "-m", module, "--kafka", kafka]
    return [*command, "--partitions", str(partitions), "--state-dir", str(state)]


def python(module: str, job: Mapping[str, Any]) -> Any:
    """Runs a module in another process with a job as JSON, and returns the JSON of its last line."""
    command = [sys.executable, "-m", module, json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    if done.returncode or not done.stdout.strip():
        raise SystemExit(f"{module} ended with code {done.returncode} and no figures")
    return json.loads(done.stdout.splitlines()[-1])


def conclude(found: Mapping[str, Any], *targets_met: bool) -> NoReturn:
    """Prints the figures as the last line, and exits: with 1 if a target is missed."""
    print(json.dumps(found))
    sys.exit(0 if all(targets_met) else 1)
