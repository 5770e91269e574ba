"""How Python itself runs in a process of processors: when it looks for garbage, how long a thread keeps the others
waiting, and what becomes of memory that is free.

The event loop is the standard library's, in every service and on every thread.

State is many objects that stay, and none of them is in a cycle. Python's own rhythm looks through all of them again and
again: a quarter of the time of a decider at full speed. What is in cycles here are the ends of tasks and of calls, few
and short-lived. Each look stops all threads, so those that are often are small: a fetch of 20,000 records brings
200,000 objects while calls wait.

The buffers of fetches and of what is sent are large, and made and let go all the time. The C library gives each back to
the system, which clears the pages of the next: a tenth of the time. So it keeps them.
"""

from __future__ import annotations

import ctypes
import gc
import sys

#: Objects made and not let go, after which the youngest are looked through; then how often their elders are.
THRESHOLDS = (2_000, 4, 12_000)
#: Seconds after which a thread lets others run that wait.
SWITCH_S = 0.001
#: Bytes of the smallest block that goes back to the system as soon as it is free, and of free memory that is kept;
#: glibc takes no more than that for the first.
LARGE_BYTES = 32 << 20
KEPT_BYTES = 64 << 20
#: Numbers of these in glibc's mallopt.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1


def tune() -> None:
    """Looks for garbage once, sets what is there apart for good, and looks seldom from here on. May be called again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    sys.setswitchinterval(SWITCH_S)
    _keep_memory()


def _keep_memory() -> None:
    """Does nothing where the C library is not glibc: others have rules of their own."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
