"""Helpers for tests of the kernel."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
import textwrap
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from intervaltree import IntervalTree

from eventlog.faust.held_sends import HeldSends
from eventlog.faust.progress import Deliveries

#: Forks a process that has imported the kernel: a new interpreter for each test would take a second of CPU.
_forge = multiprocessing.get_context("forkserver")
_forge.set_forkserver_preload(
    [
        "eventlog.processors.decider",
        "eventlog.processors.effects",
        "eventlog.processors.sequencer",
        "eventlog.faust.transport",
    ]
)


class Done(NamedTuple):
    """A process that has ended."""

    returncode: int
    stdout: str
    stderr: str


def run_python(code: str) -> Done:
    """Runs code in a process of its own, which the code ends within 60 s."""
    with tempfile.TemporaryDirectory() as directory:
        out, error = Path(directory) / "out", Path(directory) / "error"
        process = _forge.Process(target=_run, args=(textwrap.dedent(code), out, error))
        process.start()
        process.join(60)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"the process did not end: {error.read_text()}")
        return Done(process.exitcode, out.read_text(), error.read_text())


def _run(code: str, out: Path, error: Path) -> None:
    for path, stream in ((out, sys.stdout), (error, sys.stderr)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    exec(compile(code, "<the test's code>", "exec"), {"__name__": "__main__"})


def bare_consumer(cls: Any, **attributes: Any) -> Any:
    """A consumer in its first epoch without a broker and a thread; `attributes` replace the defaults."""
    made = cls.__new__(cls)
    made._acked = defaultdict(list)
    made._acked_index = defaultdict(set)
    made._gap = defaultdict(IntervalTree)
    made._committed_offset = defaultdict(lambda: None)
    made._is_changelog_tp = lambda tp: False
    made.app, made.epoch, made.flow_active = SimpleNamespace(), 1, True
    made._start, made._start_epoch, made._finding = {}, -1, (-1, None)
    made._next, made._armed, made._missed, made._assigned = {}, {}, set(), set()
    made._in_flight, made._held, made._room = {}, set(), asyncio.Event()
    made.deliveries, made.held_sends = Deliveries(), HeldSends()
    made.fetched = made.reseeks = made.stale_batches = 0
    made._reseeks_in_row = {}
    made._active_partitions, made._buffered_partitions, made._paused_partitions = set(), set(), set()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made
