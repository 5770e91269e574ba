"""Lowers the priority of gRPC's threads below the event loop's, where the system supports it.

Several gRPC threads read calls, one hands them over and one, the event loop's, answers them. In a flood the readers
take the processor from the event loop, so that more load gives fewer answers. With a lower priority, calls that are
not read stay in the buffers of their connections and slow down their senders. Below full load nothing changes.

A service that decides needs milder settings. Its event loop may be busy with catching up for minutes, with few calls,
and each call takes a dozen turns of the loop between batches: a reader that comes late to one turn misses several.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

log = structlog.stdlib.get_logger(__name__)


class ThreadPriorities(NamedTuple):
    """Nice values of gRPC's threads, relative to the event loop's.

    On a busy processor, 5 leaves a thread a third of the loop's time, 10 a tenth, 15 a thirtieth. In a container the
    values order that container's threads only.
    """

    #: The threads that read.
    reading: int
    #: The thread that wakes the event loop for each call.
    polling: int


#: For an event loop that mostly answers calls.
SERVING = ThreadPriorities(15, 5)
#: For an event loop that also decides.
DECIDING = ThreadPriorities(10, 0)
#: gRPC's names of the threads that read, and of the thread that starts more of them.
READER_THREADS = frozenset({"event_engine", "lifeguard"})
#: grpc.aio's name, in Python, of the thread that hands calls over.
POLLER_THREAD = "_poll_wrapper"
#: Seconds between two passes. A new thread inherits the priority of the thread that started it, which may be the event
#: loop's or one that had no lower priority yet.
REAPPLY_S = 1.0
_TASKS = Path("/proc/self/task")


async def apply_thread_priorities(priorities: ThreadPriorities) -> None:
    """Applies the priorities every second until cancelled. Needs a running gRPC server.

    Does nothing on a system that does not list a process's threads in /proc, such as macOS, or that does not permit a
    change of priorities, such as a container with a strict seccomp profile.
    """
    while True:
        try:
            _apply(priorities)
        except OSError as error:
            log.info("thread priorities are not supported here", why=error.strerror)
            return
        await asyncio.sleep(REAPPLY_S)


def _apply(priorities: ThreadPriorities) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    polling = {thread.native_id for thread in threading.enumerate() if POLLER_THREAD in thread.name}
    for task in _TASKS.iterdir():
        thread = int(task.name)
        # The thread may end at any time.
        with suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text().strip() in READER_THREADS:
                behind = priorities.reading
            elif thread in polling:
                behind = priorities.polling
            else:
                continue
            os.setpriority(os.PRIO_PROCESS, thread, min(own + behind, 19))
