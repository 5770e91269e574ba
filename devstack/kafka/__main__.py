"""One broker in the foreground until Ctrl-C: `python -m devstack.kafka`. Prints only its address to standard output."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from devstack import foreground
from devstack.errors import BrokerFailed
from devstack.kafka.broker import Broker


class _ForegroundBroker:
    """A broker that runs in the foreground."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._port = port
        self._cancel = threading.Event()
        self.cancel = self._cancel.set
        self.broker = Broker(cancel=self._cancel)

    def start(self) -> None:
        self.broker.start(self._directory, port=self._port)

    def failure(self) -> BrokerFailed | None:
        process = self.broker.process
        if process.running:
            return None
        return BrokerFailed(f"the broker ended with code {process.code}:\n{process.tail()}")

    def stop(self) -> None:
        self.broker.release()

    def kill_all(self) -> None:
        self.broker.kill()


def main() -> int:
    """Runs the broker. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m devstack.kafka", description="Runs one Kafka broker until Ctrl-C.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free port)")
    parser.add_argument(
        "--directory", type=Path, help="directory for its data, which is kept (default: a temporary one)"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with ExitStack() as leaving:
        directory = options.directory
        if directory is None:
            temporary = leaving.enter_context(tempfile.TemporaryDirectory(prefix="groupbuy-kafka-"))
            directory = Path(temporary)
        work = _ForegroundBroker(directory, options.port)
        return foreground.run(work, lambda: print(work.broker.bootstrap, flush=True))


if __name__ == "__main__":
    raise SystemExit(main())
