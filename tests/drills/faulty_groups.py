"""The groups service with two planted faults, for drills: `python -m tests.drills.faulty_groups`.

The rules raise for orders of the customer FAULTY. SIGUSR1 blocks the event loop, until the watchdog ends the process
with code 70. Everything else is the real service.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable
from typing import Any

from chassis.lifecycle.runner import run
from chassis.lifecycle.settings import load
from chassis.lifecycle.variables import parse_arguments
from services.groups.app import build
from services.groups.domain.domain import GroupDomain
from services.groups.settings import GroupsSettings

FAULTY = "c-faulty"


def plant() -> None:
    """Makes the rules raise for the orders of FAULTY."""
    decide = GroupDomain.decide

    def faulty(self: GroupDomain, state: Any, command: Any, at_ms: int) -> Iterable[Any]:
        for item in command.items:
            if item.kind in {"opens", "joins"} and item.message.customer == FAULTY:
                raise RuntimeError("planted by a drill")
        return decide(self, state, command, at_ms)

    GroupDomain.decide = faulty  # type: ignore[method-assign] # the planted fault


def block(*_: object) -> None:
    """Blocks the calling thread: as a signal handler, that of the event loop."""
    threading.Event().wait()


if __name__ == "__main__":
    parse_arguments(GroupsSettings, "services.groups")
    plant()
    signal.signal(signal.SIGUSR1, block)
    sys.exit(run(load(GroupsSettings), build))
