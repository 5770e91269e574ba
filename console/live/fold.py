"""The process that folds the logs for the console, so that folding never delays a page.

It is a worker of the watch (ops.watch.worker) with an observer. The console restarts it when it ends.
"""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection

from console.live.observer import LiveObserver
from console.live.reports import REPORT
from ops.watch.processes import prepare
from ops.watch.worker import Job, Progress, Worker

#: Seconds between two rounds: an order has to be on the page within a second.
POLL_S = 0.15


def fold(job: Job, connection: Connection) -> None:
    """The main function of the process."""
    prepare("console", "console-fold")
    observer = LiveObserver()

    def report(progress: Progress) -> None:
        connection.send_bytes(REPORT.encode(observer.drain(progress)))

    asyncio.run(Worker(job, report, observer).run())
