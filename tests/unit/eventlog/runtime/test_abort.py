"""`abort` ends the process with code 70 on any thread, inside any callback, and in any state of the output."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog.runtime.abort import SHUTDOWN_GRACE_S

#: Seconds for an interpreter to start on a busy machine. A process that does not end is killed after ALARM_S.
START_S = 20
ALARM_S = 30

#: Callers of `abort`. A process that goes on exits with code 0.
DIRECT = "abort('lost', ValueError('planted'), topic='t')"
CALLBACK = """
    import asyncio
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        future.add_done_callback(lambda done: abort("lost", done.exception(), topic="t"))
        future.set_exception(ValueError("planted"))
        await asyncio.sleep(0.2)
        os._exit(0)
    asyncio.run(main())
"""
THREAD = """
    import threading
    thread = threading.Thread(target=lambda: abort("lost", ValueError("planted"), topic="t"))
    thread.start()
    thread.join()
    os._exit(0)
"""
FINALIZER = """
    class Held:
        def __del__(self): abort("lost", ValueError("planted"), topic="t")
    import atexit, builtins
    builtins.held = Held()
"""
WAYS = {"directly": DIRECT, "in a done-callback": CALLBACK, "on a thread": THREAD}


def launch(code: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Starts a process that has an unflushed text on standard output and runs `code`."""
    begin = f"import os, signal, sys\nsignal.alarm({ALARM_S})\nfrom eventlog.runtime.abort import abort\n"
    begin += "sys.stdout and sys.stdout.write('unflushed')\n"
    # With PYTHONUNBUFFERED there would be no text to flush.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen([sys.executable, "-c", begin + textwrap.dedent(code)], env=environment, **streams)


def code_of(process: subprocess.Popen[bytes]) -> int:
    return process.wait(timeout=START_S + ALARM_S)


@pytest.fixture
def broken_pipe() -> Iterator[int]:
    """A pipe whose reader has closed it."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """A full pipe whose reader does not read."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    for piece in (b"x" * 4096, b"x"):
        try:
            while True:
                os.write(write, piece)
        except BlockingIOError:
            continue
    os.set_blocking(write, True)
    yield write
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("way", WAYS)
def test_it_reports_reason_and_context_and_flushes_standard_output(way: str) -> None:
    process = launch(WAYS[way], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, error = process.communicate(timeout=START_S + ALARM_S)
    assert (process.returncode, out) == (70, b"unflushed")
    assert error.startswith(b"stopping with code 70: lost topic=t\n")
    assert b"ValueError: planted" in error


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_if_standard_output_is_a_broken_pipe(way: str, broken_pipe: int) -> None:
    process = launch(WAYS[way], stdout=broken_pipe, stderr=subprocess.PIPE)
    _, error = process.communicate(timeout=START_S + ALARM_S)
    assert process.returncode == 70
    assert b"ValueError: planted" in error


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_if_standard_error_is_a_broken_pipe(way: str, broken_pipe: int) -> None:
    assert code_of(launch(WAYS[way], stdout=broken_pipe, stderr=broken_pipe)) == 70


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_in_time_if_standard_error_is_a_full_pipe(way: str, full_pipe: int) -> None:
    begin = "os.write(1, b'dying')\n"
    process = launch(begin + textwrap.dedent(WAYS[way]), stdout=subprocess.PIPE, stderr=full_pipe)
    assert process.stdout is not None
    assert process.stdout.read(5) == b"dying"
    began = time.monotonic()
    assert code_of(process) == 70
    assert time.monotonic() - began < SHUTDOWN_GRACE_S + 5
    process.stdout.close()


def test_it_reports_the_reason_if_standard_output_is_a_full_pipe(full_pipe: int) -> None:
    process = launch(DIRECT, stdout=full_pipe, stderr=subprocess.PIPE)
    _, error = process.communicate(timeout=START_S + ALARM_S)
    assert process.returncode == 70
    assert b"ValueError: planted" in error


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_if_both_outputs_are_closed(way: str) -> None:
    closing = "os.close(1)\nos.close(2)\n"
    assert code_of(launch(closing + textwrap.dedent(WAYS[way]), stdout=subprocess.PIPE)) == 70


def test_it_does_not_write_to_a_file_that_got_descriptor_2(tmp_path: Path) -> None:
    # A process without standard error gives its descriptor to the next file that it opens.
    file = tmp_path / "state"
    code = f"file = open({str(file)!r}, 'wb', buffering=0)\nassert file.fileno() == 2\n{DIRECT}"
    process = launch(code, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.close(2))
    assert code_of(process) == 70
    assert file.read_bytes() == b""


def test_it_ends_during_interpreter_shutdown() -> None:
    # No thread can start then, so a wait without a limit would not end.
    assert code_of(launch(FINALIZER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)) == 70


def test_it_ends_if_no_thread_can_start() -> None:
    code = f"""
    import _thread
    def refuse(*_): raise RuntimeError("can't start new thread")
    _thread.start_new_thread = refuse
    {DIRECT}
    """
    assert code_of(launch(code, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)) == 70


def test_the_reason_is_reported_if_the_context_or_the_error_can_not_be_shown() -> None:
    code = """
    class Shy(Exception):
        def __str__(self): raise ValueError("no")
        __repr__ = __str__
    abort("lost", Shy(), topic=Shy())
    """
    process = launch(code, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, error = process.communicate(timeout=START_S + ALARM_S)
    assert process.returncode == 70
    assert error.startswith(b"stopping with code 70: lost")
    assert b"Shy" in error
