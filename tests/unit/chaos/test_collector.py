from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.kernel.collector import Collector
from tests.waiting import wait_for_async


async def test_a_collector_copies_output_until_it_closes_the_pipe(tmp_path: Path) -> None:
    log = tmp_path / "w.log"
    collector = Collector(log)
    output = os.open(collector.pipe, os.O_WRONLY)
    try:
        os.write(output, b"hello\n")

        async def copied() -> bool:
            return log.exists() and log.read_bytes() == b"hello\n"

        await wait_for_async(copied, seconds=5, every=0.02)
        collector.close()
        with pytest.raises(BrokenPipeError):
            os.write(output, b"nobody\n")
    finally:
        os.close(output)


def test_the_pipe_of_a_stalled_collector_is_full(tmp_path: Path) -> None:
    collector = Collector(tmp_path / "w.log")
    output = os.open(collector.pipe, os.O_WRONLY | os.O_NONBLOCK)
    try:
        collector.stall()
        with pytest.raises(BlockingIOError):
            os.write(output, b"x")
    finally:
        os.close(output)
        collector.close()
