"""Metrics of the process itself: event loop, garbage collector, build, earlier runs, certificate, readiness."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

from cryptography import x509
from prometheus_client import ProcessCollector
from prometheus_client.core import Metric as Family

from chassis.telemetry.metrics import metrics_of_services as m
from chassis.telemetry.metrics.metric_catalogue import BY_NAME
from chassis.telemetry.metrics.metric_families import Labels, family, histogram_family
from eventlog.runtime.counters import Histogram

#: The distribution that has the services.
DISTRIBUTION = "groupbuy-settlement"


class GarbageCollectorMeter:
    """The pauses of the garbage collector, by generation. Each stops all threads."""

    def __init__(self) -> None:
        self.pauses = tuple(Histogram(m.GC_PAUSE.buckets) for _ in range(3))
        self._began = 0.0

    def start(self) -> None:
        """Begins to measure."""
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Stops measuring."""
        gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.pauses[info["generation"]].observe(time.perf_counter() - self._began)


def build_metrics(service: str) -> Callable[[], Iterator[Family]]:
    """The collector of the build's version and of the process's CPU, memory and files."""
    labels = (service, _version(), platform.python_version())
    process = ProcessCollector(registry=None)

    def collect() -> Iterator[Family]:
        yield family(m.BUILD_INFO, {labels: 1})
        # The library's counter of CPU seconds is named without its ending.
        yield from (one for one in process.collect() if one.name in BY_NAME or f"{one.name}_total" in BY_NAME)

    return collect


def pause_metrics(lag: Histogram, collector: GarbageCollectorMeter) -> Callable[[], Iterator[Family]]:
    """The collector of the event loop's lag and the garbage collector's pauses."""

    def collect() -> Iterator[Family]:
        yield histogram_family(m.EVENT_LOOP_LAG, {(): lag})
        pauses: dict[Labels, Histogram] = {(str(number),): one for number, one in enumerate(collector.pauses)}
        yield histogram_family(m.GC_PAUSE, pauses)

    return collect


def certificate_metrics(certificate: Callable[[], bytes]) -> Callable[[], Iterator[Family]]:
    """The collector of the certificate's end. `certificate` returns the PEM file's content in use."""

    def collect() -> Iterator[Family]:
        ends = x509.load_pem_x509_certificate(certificate()).not_valid_after_utc
        yield family(m.CERTIFICATE_EXPIRES, ends.timestamp())

    return collect


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
