"""Everything by which a process is observed from outside: its metrics and probes, and the record of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog
from prometheus_client.core import Metric as Family

from chassis.identity.tls import CertificateFiles
from chassis.lifecycle import probes
from chassis.lifecycle.health_state import HealthState, health_metrics
from chassis.lifecycle.run_record import RunRecord
from chassis.lifecycle.settings import ServiceSettings, host_and_port
from chassis.lifecycle.watchdog import Watchdog
from chassis.rpc.server import Server
from chassis.telemetry.http_listener import HttpListener
from chassis.telemetry.metrics import metrics_of_services as m
from chassis.telemetry.metrics.exposition import Collect, MetricsCollector
from chassis.telemetry.metrics.metric_families import family
from chassis.telemetry.metrics.metrics_calls import call_metrics
from chassis.telemetry.metrics.metrics_process import (
    GarbageCollectorMeter,
    build_metrics,
    certificate_metrics,
    pause_metrics,
)
from eventlog.runtime.abort import EXIT_CODE as CRASH
from eventlog.runtime.abort import at_end

log = structlog.stdlib.get_logger(__name__)


class Observation:
    """The observation of one process. Without METRICS_LISTEN it counts the runs and serves nothing."""

    def __init__(self, settings: ServiceSettings, watchdog: Watchdog) -> None:
        self._settings = settings
        self._watchdog = watchdog
        self._collector_pauses = GarbageCollectorMeter()
        self._runs: RunRecord | None = None
        self._listener: HttpListener | None = None
        self.health = HealthState()

    def count_run(self) -> None:
        """Counts this run in the state directory, which exists. Raises OSError."""
        runs = self._runs = RunRecord(self._settings.state_dir)
        at_end(lambda: runs.end(CRASH))
        self._collector_pauses.start()

    def serve(self, server: Server, files: CertificateFiles | None, collectors: Sequence[Collect]) -> None:
        """Serves metrics and probes if they have an address. Raises OSError if it can't be listened on."""
        if not self._settings.metrics_listen:
            return
        collector = self.collector(server, files, collectors)
        host, port = host_and_port(self._settings.metrics_listen)
        self._listener = HttpListener(host, port, probes.pages(collector, self.health, self._watchdog))
        self._listener.start()
        log.info("serving metrics and probes", address=self._listener.address)

    def collector(
        self, server: Server, files: CertificateFiles | None, collectors: Sequence[Collect]
    ) -> MetricsCollector:
        """The collector of this process. Call it after the run was counted."""
        parts: list[Collect] = [
            build_metrics(self._settings.service),
            health_metrics(self.health),
            self._run_metrics,
            pause_metrics(self._watchdog.lag, self._collector_pauses),
            call_metrics(server.pipeline, server.measured),
            *collectors,
        ]
        if files is not None:
            parts.append(certificate_metrics(lambda: files.refresh().certificate))
        return MetricsCollector(parts)

    def stop(self, code: int) -> None:
        """Stops serving, and records the exit code. Does nothing about parts that were not started."""
        if self._listener is not None:
            self._listener.stop()
        if self._runs is not None:
            self._collector_pauses.stop()
            self._runs.end(code)

    def _run_metrics(self) -> Iterator[Family]:
        runs = self._runs
        assert runs is not None
        yield family(m.STARTS, runs.starts)
        if runs.last_code is not None:
            yield family(m.LAST_EXIT_CODE, runs.last_code)
