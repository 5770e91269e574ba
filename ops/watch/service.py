"""The process of `groupbuy-ops watch`: worker processes, the progress of the consumer groups, and the HTTP port."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from chassis.telemetry.http_listener import Answer, HttpListener, Page
from chassis.telemetry.metrics.exposition import CONTENT_TYPE, MetricsCollector
from chassis.telemetry.metrics.metrics_process import build_metrics
from eventlog.runtime import private_files
from eventlog.runtime.concurrency import run_until_first_ends
from eventlog.runtime.wall_clock import wall_clock_ms
from eventlog.state.open_partitions import drop_other_layouts
from ops.errors import cannot_run
from ops.security import cluster
from ops.trace.follow import TraceFollower
from ops.watch.lag import Lags, follow
from ops.watch.liveness import Liveness
from ops.watch.metrics import WatchCollector
from ops.watch.processes import Processes
from ops.watch.view import View, figures
from ops.watch.worker import Job

log = logging.getLogger(__name__)

#: Seconds between two log lines with all figures.
FIGURES_S = 60.0


class WatchService:
    """Runs until SIGTERM or Ctrl-C."""

    def __init__(
        self,
        job: Job,
        *,
        listen: tuple[str, int] | None = None,
        roots: Path | None = None,
        traces: TraceFollower | None = None,
    ) -> None:
        """`listen` is the host and port for metrics and probes; None serves nothing. `traces` exports traces."""
        self._job = job
        self.view = View(job.workers, roots)
        self.processes = Processes(job, self.view.take)
        self._liveness = Liveness()
        self._traces = traces
        self._listener = _listener(listen, self.view) if listen is not None else None

    async def run(self) -> None:
        """Runs until a signal arrives."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        if self._listener is not None:
            self._listener.start()
            log.info("metrics and probes at http://%s", self._listener.address)
        work: list[Awaitable[object]] = [
            self.processes.run(),
            self._follow_groups(),
            self._log_figures(),
            stopped.wait(),
        ]
        if self._traces is not None:
            work.append(self._traces.run())
        try:
            await run_until_first_ends(*work)
        finally:
            if self._listener is not None:
                self._listener.stop()

    async def _follow_groups(self) -> None:
        def failed(error: Exception) -> None:
            log.error("the groups' progress can't be read, retrying: %r", error)
            # No series rather than an old value that looks like the present.
            self.view.lags, self.view.problems = Lags([], {}), []

        async for lags in follow(lambda: cluster(self._job.kafka), failed):
            self.view.lags = lags
            self.view.problems = self._liveness.observe(lags, time.monotonic())
            self.view.advanced = dict(self._liveness.advanced)

    async def _log_figures(self) -> None:
        while True:
            await asyncio.sleep(FIGURES_S)
            view = self.view
            if view.complete:
                found = figures(view.totals, view.compared, wall_clock_ms())
                log.info("figures", extra={"behind": view.behind, **found})
            else:
                log.info("catching up: %d records folded, %d left", view.folded, view.behind)


def _listener(listen: tuple[str, int], view: View) -> HttpListener:
    collector = MetricsCollector([build_metrics("watch"), WatchCollector(view).collect])

    def metrics() -> Answer:
        return Answer(200, CONTENT_TYPE, collector.text())

    def live() -> Answer:
        return _probe(True, {"live": True})

    def ready() -> Answer:
        content = {"ready": view.complete, "behind": view.behind, "problems": [str(one) for one in view.problems]}
        return _probe(view.complete, content)

    pages: Mapping[str, Page] = {"/metrics": metrics, "/live": live, "/ready": ready, "/startup": ready}
    try:
        return HttpListener(*listen, pages)
    except OSError as error:
        raise cannot_run(f"can't listen on {listen[0]}:{listen[1]}: {error.strerror or error}") from error


def _probe(passed: bool, content: Mapping[str, object]) -> Answer:
    return Answer(200 if passed else 503, "application/json", (json.dumps(content) + "\n").encode())


@contextmanager
def state_directory(path: Path, workers: int) -> Iterator[Path]:
    """Creates and locks the state directory, and deletes the state of another number of workers. Raises OpsError."""
    try:
        lock = private_files.lock_directory(path)
    except private_files.InUse:
        raise cannot_run(f"another watch uses {path}: stop it, or choose another --state") from None
    with lock:
        mine = {f"{number}-of-{workers}" for number in range(workers)}
        drop_other_layouts(path, sorted({one.name for one in path.glob("*-of-*") if one.suffix == ""} - mine))
        yield path
