"""Thread priorities are optional: a system without them, or one that forbids them, runs the same services.

Method: a folder in place of /proc/self/task with one thread of gRPC, and a setpriority that fails as the system's does.
"""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from chassis.admission import thread_priority
from chassis.admission.thread_priority import SERVING, apply_thread_priorities

THREAD = 4242


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / str(THREAD)).mkdir()
    (tmp_path / str(THREAD) / "comm").write_text("event_engine\n")
    monkeypatch.setattr(thread_priority, "_TASKS", tmp_path)
    return tmp_path


async def test_a_system_without_a_list_of_threads_needs_no_priorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_priority, "_TASKS", tmp_path / "absent")
    await asyncio.wait_for(apply_thread_priorities(SERVING), 5)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENOSYS])
async def test_a_system_that_forbids_priorities_is_asked_once_and_not_again(
    tasks: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    asked = []

    def refuse(kind: int, thread: int, priority: int) -> None:
        asked.append((kind, thread))
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "setpriority", refuse)
    await asyncio.wait_for(apply_thread_priorities(SERVING), 5)
    assert asked == [(os.PRIO_PROCESS, THREAD)]


async def test_a_thread_that_has_just_ended_does_not_end_the_passes(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: asyncio.Queue[int] = asyncio.Queue()

    def ended(kind: int, thread: int, priority: int) -> None:
        passes.put_nowait(thread)
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))

    monkeypatch.setattr(os, "setpriority", ended)
    monkeypatch.setattr(thread_priority, "REAPPLY_S", 0.01)
    applying = asyncio.create_task(apply_thread_priorities(SERVING))
    async with asyncio.timeout(5):
        assert [await passes.get() for _ in range(2)] == [THREAD, THREAD]
    applying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await applying
