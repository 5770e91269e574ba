"""The broker of a benchmark that starts no services."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.kafka.broker import Broker


@contextmanager
def kafka(*, core: int | None = None) -> Iterator[str]:
    """host:port of a broker: $KAFKA if it is set, else a temporary broker, on one CPU core if `core` is given."""
    if external := os.environ.get("KAFKA"):
        yield external
        return
    directory = Path(tempfile.mkdtemp(prefix="bench-kafka-"))
    broker = Broker()
    try:
        broker.start(directory)
        if core is not None and broker.process.pid is not None:
            os.sched_setaffinity(broker.process.pid, {core})
        yield broker.bootstrap
    finally:
        broker.release()
        shutil.rmtree(directory, ignore_errors=True)
