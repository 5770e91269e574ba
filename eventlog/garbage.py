"""How often a process looks for garbage. Its state is many objects that stay, and none of them is in a cycle.

Python's own rhythm looks through all of them again and again: a quarter of the time of a decider at full speed. What
is in cycles here are the ends of tasks and of calls, few and short-lived. Each look stops all threads, so those that
are often are small: a fetch of 20,000 records brings 200,000 objects.
"""

from __future__ import annotations

import gc

#: Objects made and not let go, after which the youngest are looked through; then how often their elders are.
THRESHOLDS = (5_000, 10, 2_000)


def collect_seldom() -> None:
    """Looks for garbage once, sets what is there apart for good, and looks seldom from here on. May be called again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
