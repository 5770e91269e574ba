"""How Python itself runs in a process of processors: when it looks for garbage, and how long a thread keeps the others
waiting.

State is many objects that stay, and none of them is in a cycle. Python's own rhythm looks through all of them again and
again: a quarter of the time of a decider at full speed. What is in cycles here are the ends of tasks and of calls, few
and short-lived. Each look stops all threads, so those that are often are small: a fetch of 20,000 records brings
200,000 objects. While the consumer's thread unpacks it, each turn of the event loop waits until that thread is told to
let go, and a call by gRPC takes a dozen turns.
"""

from __future__ import annotations

import gc
import sys

#: Objects made and not let go, after which the youngest are looked through; then how often their elders are.
THRESHOLDS = (5_000, 4, 5_000)
#: Seconds after which a thread lets others run that wait.
SWITCH_S = 0.001


def tune() -> None:
    """Looks for garbage once, sets what is there apart for good, and looks seldom from here on. May be called again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    sys.setswitchinterval(SWITCH_S)
