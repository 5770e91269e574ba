"""Lets the threads on which gRPC reads and writes give way to the event loop, where the system can do that.

Calls are read by several threads, handed over by one and answered by one, the event loop's. In a flood those that read
take the processor from the one that answers, and the more is asked for, the less is answered. Where they have to give
way, what can't be read stays in the buffers of the connections and slows down who sends it. While there is time enough
they are as quick as ever.

A service that decides is another matter. Where it has much to catch up with its event loop is busy for minutes, with
few calls beside, and each of them takes a dozen turns between batches: whoever comes late to one has missed several.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class ThreadPriorities(NamedTuple):
    """By how much threads are behind the event loop's. By 5, one gets a third of what that gets of a processor that is
    too busy, by 10 a tenth, by 15 a thirtieth. In a container it is a rank among its threads alone: what runs beside it
    is not let before them."""

    #: Those that read.
    reading: int
    #: The one that wakes the event loop for each call.
    handing_over: int


#: Of a service whose event loop does little but answer.
ANSWERS = ThreadPriorities(15, 5)
#: Of one whose event loop decides as well.
DECIDES = ThreadPriorities(10, 0)
#: As gRPC names those that read: they, and the one that makes more of them.
READERS = frozenset({"event_engine", "lifeguard"})
#: What grpc.aio names the one that hands over, in Python.
HANDS_OVER = "_poll_wrapper"
#: Seconds after which threads that gRPC has made since get theirs. Mostly they have it, from the thread that made them;
#: but that may have been the event loop's, or one that had no rank yet.
AGAIN_S = 1.0
_TASKS = Path("/proc/self/task")


async def apply_thread_priorities(ranks: ThreadPriorities) -> None:
    """Sees to it until cancelled, on the event loop, once gRPC runs. Does nothing where threads have no priority."""
    while True:
        _set(ranks)
        await asyncio.sleep(AGAIN_S)


def _set(ranks: ThreadPriorities) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    handing_over = {thread.native_id for thread in threading.enumerate() if HANDS_OVER in thread.name}
    for task in _TASKS.iterdir() if _TASKS.exists() else ():
        thread = int(task.name)
        # It may end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text().strip() in READERS:
                behind = ranks.reading
            elif thread in handing_over:
                behind = ranks.handing_over
            else:
                continue
            os.setpriority(os.PRIO_PROCESS, thread, min(own + behind, 19))
