"""Readiness and start of a process, as probes see them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from chassis.lifecycle.health_state import HealthState
from chassis.lifecycle.probes import LIVE, READY, STARTUP, pages
from chassis.telemetry.metrics.exposition import MetricsCollector


def probe(health: HealthState, path: str) -> tuple[int, Any]:
    watchdog: Any = SimpleNamespace(last_beat=0.0)
    status, _, body = pages(MetricsCollector([]), health, watchdog)[path]()
    return status, json.loads(body)


def test_a_process_that_has_just_started_is_live_and_says_what_is_missing() -> None:
    health = HealthState()
    assert probe(health, LIVE)[0] == 200
    status, body = probe(health, READY)
    assert (status, len(body["why"])) == (503, 3)
    assert probe(health, STARTUP)[0] == 503


def test_while_partitions_are_recovered_that_is_the_only_reason() -> None:
    health = HealthState()
    assert not health.update(broker=True, publisher=True)
    status, body = probe(health, READY)
    assert (status, body["why"]) == (503, ["the partitions of this process are not recovered"])
    assert health.update(processors=True)
    assert probe(health, READY) == (200, {"ready": True, "why": [], "quarantined": 0})


def test_a_process_that_has_served_once_stays_started_and_becomes_ready_again() -> None:
    health = HealthState()
    health.update(broker=True, processors=True, publisher=True)
    health.update(broker=False)
    assert probe(health, READY) == (503, {"ready": False, "why": ["the broker does not answer"], "quarantined": 0})
    assert probe(health, STARTUP) == (200, {"started": True, "why": []})
    health.update(broker=True)
    assert probe(health, READY)[0] == 200


def test_a_process_that_stops_is_not_ready_whatever_its_checks() -> None:
    health = HealthState()
    health.update(broker=True, processors=True, publisher=True)
    health.stop()
    assert not health.update(broker=True, processors=True, publisher=True)
    assert probe(health, READY)[1]["why"] == ["the process is stopping"]
