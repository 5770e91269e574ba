"""Lets the threads on which gRPC reads and writes give way to the event loop, where the system can do that.

Calls are read by several threads and answered by one. In a flood those that read take the processor from the one that
answers, and the more is asked for, the less is answered. Where they have to give way, what can't be read stays in the
buffers of the connections and slows down who sends it. While there is time enough they are as quick as ever.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

#: How much less of a processor that is too busy such a thread gets: a tenth of what the event loop does.
NICE = 10
#: As gRPC names them: those that work, and the one that makes more of these, which inherit what it has.
THREADS = frozenset({"event_engine", "lifeguard"})
_TASKS = Path("/proc/self/task")


def give_way() -> None:
    """To be called once gRPC runs, on the event loop's thread. Does nothing where threads have no priority."""
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + NICE, 19)
    for task in _TASKS.iterdir() if _TASKS.exists() else ():
        # A thread may end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text().strip() in THREADS:
                os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
