"""The worker processes of watch, each with some partitions. A worker that ends is started again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any

from msgspec.structs import replace

from chassis.telemetry import logging as telemetry
from eventlog.records.packed import Packed
from eventlog.runtime import interpreter
from ops.watch.worker import Job, Progress, Worker

log = logging.getLogger(__name__)

#: Seconds before a worker that has ended is started again.
RESTART_S = 1.0

_PROGRESS: Packed[Progress] = Packed(Progress)


class Processes:
    """The workers of one watch."""

    def __init__(
        self,
        job: Job,
        on_report: Callable[[Any], None],
        *,
        main: Callable[[Job, Connection], None] | None = None,
        decode: Callable[[bytes], Any] = _PROGRESS.decode,
    ) -> None:
        """`on_report` receives each decoded report. `main`, by default `work`, is what a worker process runs."""
        self._job = job
        self._on_report = on_report
        self._main = main or work
        self._decode = decode
        self._running: list[Any] = []
        #: Workers that ended by themselves.
        self.restarts = 0

    async def run(self) -> None:
        """Runs all workers until this is cancelled."""
        await asyncio.gather(*(self._keep(number) for number in range(self._job.workers)))

    async def _keep(self, number: int) -> None:
        while True:
            code = await self._once(replace(self._job, worker=number))
            self.restarts += 1
            log.error("worker %d ended with code %s; starting it again", number, code)
            await asyncio.sleep(RESTART_S)

    async def _once(self, job: Job) -> int | None:
        context = get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=self._main, args=(job, sender), daemon=True)
        # Blocks for a moment only: the child imports its modules after it has been started.
        process.start()
        sender.close()
        self._running.append(process)
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def receive() -> None:
            try:
                while receiver.poll():
                    self._on_report(self._decode(receiver.recv_bytes()))
            except (EOFError, OSError):
                loop.remove_reader(receiver.fileno())
                ended.set_result(None)

        loop.add_reader(receiver.fileno(), receive)
        try:
            await ended
        finally:
            if not ended.done() or ended.cancelled():
                loop.remove_reader(receiver.fileno())
            process.terminate()
            await asyncio.to_thread(process.join)
            receiver.close()
            self._running.remove(process)
        return process.exitcode


def work(job: Job, connection: Connection) -> None:
    """The main function of a worker process."""
    prepare("watch", f"watch-{job.worker}")
    asyncio.run(Worker(job, lambda progress: connection.send_bytes(_PROGRESS.encode(progress))).run())


def prepare(service: str, instance: str) -> None:
    """Sets up a worker process: signals, log, interpreter, and an end together with its parent."""
    # Ctrl-C goes to the whole process group; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    telemetry.configure(level="INFO", form="json", service=service, instance=instance)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    interpreter.tune()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends the process once its parent is gone: a killed parent ends no worker."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)
