"""Settings of the Python interpreter and of the C allocator for a process of processors.

The state of a decider is many long-lived objects, none of them in a reference cycle. With Python's default thresholds
the garbage collector traverses all of them again and again, which took a quarter of a busy decider's time. Cycles come
only from ended tasks and calls, and are few and short-lived. Every collection stops all threads, so the frequent ones
are kept small: a fetch of 20,000 records creates 200,000 objects while calls wait.

Fetch and send buffers are large and short-lived. By default the C library returns each of them to the system, which
then clears the pages of the next one: a tenth of the time. So freed memory is kept.

All services and threads use the standard library's event loop.
"""

from __future__ import annotations

import ctypes
import gc
import sys

#: Thresholds of the garbage collector's three generations: new objects, then collections of the younger generation.
THRESHOLDS = (2_000, 4, 12_000)
#: Seconds after which a running thread yields to a waiting one.
SWITCH_S = 0.001
#: Size in bytes from which a freed block is returned to the system at once; glibc allows no more.
LARGE_BYTES = 32 << 20
#: Bytes of free memory at the top of the heap that are not returned to the system.
KEPT_BYTES = 64 << 20
#: Parameter numbers of glibc's mallopt.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1


def tune() -> None:
    """Collects garbage once, exempts the present objects from later collections, and applies the settings above.

    May be called more than once.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    sys.setswitchinterval(SWITCH_S)
    _keep_memory()


def _keep_memory() -> None:
    """Sets the allocator's thresholds. Does nothing if the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
