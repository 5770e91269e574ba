"""The groups service with three planted faults, for drills: `python -m tests.drills.faulty_groups`.

The rules raise for orders of the customer FAULTY. SIGUSR1 blocks the event loop, until the watchdog ends the process
with code 70. SIGUSR2 makes the disk stuck, and the next one frees it: checkpoints wait before they are written.
Everything else is the real service.
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
from eventlog.state.rocksdb_store import RocksDBStore
from services.groups.app import build
from services.groups.domain.domain import GroupDomain
from services.groups.settings import GroupsSettings

FAULTY = "c-faulty"
_disk_is_free = threading.Event()


def plant() -> None:
    """Makes the rules raise for the orders of FAULTY."""
    decide = GroupDomain.decide

    def faulty(self: GroupDomain, state: Any, command: Any, at_ms: int) -> Iterable[Any]:
        for item in command.items:
            if item.kind in {"opens", "joins"} and item.message.customer == FAULTY:
                raise RuntimeError("planted by a drill")
        return decide(self, state, command, at_ms)

    GroupDomain.decide = faulty  # type: ignore[method-assign] # the planted fault


def plant_disk() -> None:
    """Makes checkpoints wait while the disk is stuck."""
    finish = RocksDBStore.finish_checkpoint

    def stuck(self: RocksDBStore[Any], position: Any) -> None:
        _disk_is_free.wait()
        finish(self, position)

    RocksDBStore.finish_checkpoint = stuck  # type: ignore[method-assign] # the planted fault


def toggle_disk(*_: object) -> None:
    """Makes the disk stuck, or frees it."""
    if _disk_is_free.is_set():
        _disk_is_free.clear()
    else:
        _disk_is_free.set()


def block(*_: object) -> None:
    """Blocks the calling thread: as a signal handler, that of the event loop."""
    threading.Event().wait()


if __name__ == "__main__":
    parse_arguments(GroupsSettings, "services.groups")
    plant()
    plant_disk()
    _disk_is_free.set()
    signal.signal(signal.SIGUSR2, toggle_disk)
    signal.signal(signal.SIGUSR1, block)
    sys.exit(run(load(GroupsSettings), build))
