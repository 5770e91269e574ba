"""The metrics of watch: all of the catalogue, in few lines, with the values of the view."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chassis.telemetry.metrics import metrics_of_watch
from chassis.telemetry.metrics.exposition import MetricsCollector
from chassis.telemetry.metrics.metric import Metric
from eventlog.runtime.wall_clock import wall_clock_ms
from ops.watch.folding.statement_check import Compared
from ops.watch.folding.summary import Money, OpenHold, Summary
from ops.watch.folding.totals import Totals
from ops.watch.lag import READERS, Lags, PartitionLag
from ops.watch.metrics import WatchCollector
from ops.watch.view import View
from ops.watch.worker import Progress

_LABELS = {one.name: one.labels for one in vars(metrics_of_watch).values() if isinstance(one, Metric)}
CATALOGUE = set(_LABELS)
MAX_LINES = 500


@pytest.fixture
def view(tmp_path: Path) -> View:
    now_ms = wall_clock_ms()
    roots = tmp_path / "roots"
    roots.touch()
    found = View(2, roots)
    rows = [
        PartitionLag(group, topic, partition, 5, 7, 2, 3.0 + partition, "host:1")
        for group, topics in READERS.items()
        for topic in topics
        for partition in range(64)
    ]
    found.lags = Lags(rows, dict.fromkeys(READERS, 3))
    found.advanced = dict.fromkeys(READERS, 11)
    for worker in range(2):
        totals = Totals(across={4: 1}, by_invariant={14: 2})
        held = OpenHold("CNY", "simulated", 100, now_ms - 7_200_000, now_ms + 3_600_000)
        money = {one: Money(held=9, suspense=3, owed=2) for one in ("CNY", "USD", "EUR", "JPY")}
        totals.add(Summary(kept_price_minor=30, campaign=f"campaign-{worker}", currency="EUR"))
        totals.add(Summary("settled", {"settled": 5}, money, [held], unsettled_since_ms=now_ms - 600_000, pending=1))
        found.take(Progress(worker, 1, 0, 70, totals, [Compared("simulated", now_ms, differences=1)]))
    return found


def samples(view: View) -> dict[tuple[str, tuple[str, ...]], float]:
    text = MetricsCollector([WatchCollector(view).collect]).text().decode()
    assert len(text.splitlines()) < MAX_LINES
    return {
        (sample.name, tuple(sample.labels[name] for name in _LABELS[sample.name])): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_metric_of_the_catalogue_is_served(view: View) -> None:
    assert {name for name, _ in samples(view)} == CATALOGUE


def test_the_values_are_those_of_the_view(view: View) -> None:
    found = samples(view)
    group, topic = next((group, topics[0]) for group, topics in READERS.items())
    assert found["groupbuy_watch_lag_records", (group, topic)] == 128
    assert found["groupbuy_watch_lag_seconds", (group, topic)] == 66
    assert found["groupbuy_watch_committed_records_total", (group,)] == 11
    assert found["groupbuy_watch_members", (group,)] == 3
    assert found["groupbuy_watch_position_records_total", ()] == 140
    assert found["groupbuy_orders_total", ("settled",)] == 10
    assert found["groupbuy_groups_total", ("expired",)] == 0
    assert found["groupbuy_money_minor_total", ("held", "CNY")] == 18
    assert found["groupbuy_kept_price_groups_total", ("EUR",)] == 2
    assert found["groupbuy_kept_price_cost_minor_total", ("EUR",)] == 60
    assert found["groupbuy_kept_price_cost_minor_total", ("CNY",)] == 0
    assert found["groupbuy_suspense_minor", ("CNY",)] == 6
    assert found["groupbuy_owed_minor", ("CNY",)] == 4
    assert found["groupbuy_open_holds", ("1h", "CNY")] == 2
    assert found["groupbuy_open_holds_minor", ("1d", "CNY")] == 0
    assert found["groupbuy_hold_lapses_in_seconds", ("simulated",)] == pytest.approx(3570, abs=40)
    assert found["groupbuy_unsettled_groups", ()] == 2
    assert found["groupbuy_oldest_unsettled_group_seconds", ()] == pytest.approx(630, abs=40)
    assert found["groupbuy_audit_differences", ("4",)] == 2
    assert found["groupbuy_audit_differences", ("14",)] == 4
    assert found["groupbuy_audit_differences", ("15",)] == 2
    assert found["groupbuy_reconcile_differences", ("simulated",)] == 2


def test_sums_are_not_served_before_every_worker_has_completed_a_round(view: View) -> None:
    partial = View(2)
    partial.take(Progress(0, 1, 0, 70, Totals(), []))
    partial.take(Progress(1, 0, 5000, 20, None, []))
    found = samples(partial)
    assert found["groupbuy_watch_behind_records", ()] == 5000
    assert not {name for name, _ in found} & {"groupbuy_orders_total", "groupbuy_unsettled_groups"}
    assert not partial.complete
