"""The pages of the HTTP listener: /metrics for Prometheus, and /live, /ready, /startup for an orchestrator.

Each probe answers 200 or 503, with a JSON body that says why not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from chassis.lifecycle.health_state import HealthState
from chassis.lifecycle.watchdog import Watchdog
from chassis.telemetry.http_listener import Answer, Page
from chassis.telemetry.metrics.exposition import CONTENT_TYPE, MetricsCollector

METRICS, LIVE, READY, STARTUP = "/metrics", "/live", "/ready", "/startup"


def pages(collector: MetricsCollector, health: HealthState, watchdog: Watchdog) -> Mapping[str, Page]:
    """The pages of a service process."""

    def metrics() -> Answer:
        return Answer(200, CONTENT_TYPE, collector.text())

    def live() -> Answer:
        # The watchdog ends a process whose event loop is stuck, so that one is live which answers here.
        return _probe(True, live=True, event_loop_silent_s=round(time.monotonic() - watchdog.last_beat, 3))

    def ready() -> Answer:
        return _probe(health.serving, ready=health.serving, why=health.problems, quarantined=health.quarantined)

    def startup() -> Answer:
        return _probe(health.started, started=health.started, why=[] if health.started else health.problems)

    return {METRICS: metrics, LIVE: live, READY: ready, STARTUP: startup}


def _probe(passed: bool, **content: Any) -> Answer:
    return Answer(200 if passed else 503, "application/json", (json.dumps(content) + "\n").encode())
