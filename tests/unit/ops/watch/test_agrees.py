"""At any time, watch finds what an audit of the same records finds, and keeps the same sums."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ops.audit.auditor import Auditor
from ops.watch.folding.incremental import IncrementalAudit
from ops.watch.folding.summary import ORDER_ENDS
from ops.watch.folding.totals import KeptPrice
from services.groups.domain.pricing import kept_price_cost
from services.groups.domain.terms import terms_of
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_LOG
from tests.golden.logs import files, read
from tests.scenarios import group_events as ge
from tests.scenarios import payment_events as pe
from tests.simulation.histories.coverage import Coverage
from tests.simulation.histories.plan import plan
from tests.simulation.histories.play import play, prepared
from tests.unit.ops.scripted_logs import Edit, completed_group, terms
from tests.unit.ops.simulated_system import SimulatedSystem
from tests.unit.ops.watch.folding import CAUSAL, Timeline, fold, open_audit, timeline


def assert_equal(watch: IncrementalAudit, auditor: Auditor, *, all_placed: bool = True) -> None:
    """The audit's report counts placed orders only, so ends are compared if `all_placed`."""
    report = auditor.report(settled=False)
    found = {int(invariant): count for invariant, count in report.findings.by_invariant.items()}
    assert watch.totals.violations == dict(sorted(found.items()))
    assert watch.totals.pending == report.findings.pending_count
    assert watch.totals.alarms == len(report.findings.alarms)
    assert (watch.totals.records, watch.totals.duplicates) == (report.records, report.duplicates)
    ends = Counter({ORDER_ENDS[state]: count for state, count in report.orders.items() if state in ORDER_ENDS})
    if all_placed:
        assert Counter(watch.totals.orders) == ends
    for currency, totals in report.money.items():
        mine = watch.totals.money[currency]
        assert (mine.held, mine.captured, mine.refunded) == (totals.held, totals.captured, totals.refunded)
        assert mine.voided + mine.lapsed == totals.released
        assert sum(minor for _, minor in watch.totals.holds.get(currency, {}).values()) == totals.open
    assert sum(count for minutes in watch.totals.holds.values() for count, _ in minutes.values()) == report.open_holds


@pytest.mark.parametrize("seed", range(3))
def test_an_evening_agrees_at_every_prefix(seed: int, tmp_path: Path) -> None:
    system = SimulatedSystem(60, seed, tmp_path)
    system.run()
    records = timeline(system.topics)
    watch, auditor = open_audit(tmp_path, max_changed=20, max_recent=10), Auditor()
    for at in range(0, len(records), 25):
        fold(watch, records[at : at + 25])
        fold(auditor, records[at : at + 25])
        watch.end_round()
        assert_equal(watch, auditor)
    assert watch.totals.violations == {}
    assert list(watch.open_items()) == []
    assert list(watch.totals.unbalanced()) == []


def test_every_prefix_of_golden_logs_agrees(tmp_path: Path) -> None:
    histories = [logs for path in files() for logs in read(path)][:25]
    assert histories
    for number, logs in enumerate(histories):
        records: Timeline = []
        for (topic, _), log in logs.items():
            records += [(topic, record) for record in log]
        topics: dict[str, list[object]] = {}
        for topic, record in records:
            topics.setdefault(topic, []).append(record)
        ordered = timeline(topics)
        watch, auditor = open_audit(tmp_path / str(number), max_changed=2, max_recent=1), Auditor()
        for one in ordered:
            fold(watch, [one])
            fold(auditor, [one])
            watch.end_round()
            assert_equal(watch, auditor, all_placed=False)


@pytest.mark.parametrize("seed", range(4))
def test_a_history_with_faults_agrees_at_every_prefix(seed: int, tmp_path: Path) -> None:
    """Crashes, repeats, lost results, several owners, and forged records: those are violations for both."""
    with prepared(Coverage()):
        logs = play(plan(seed), Coverage()).broker.logs
    topics: dict[str, list[object]] = {}
    for (topic, _), log in logs.items():
        topics.setdefault(topic, []).extend(log)
    records = timeline(topics)
    assert {topic for topic, _ in records} == set(CAUSAL)
    watch, auditor = open_audit(tmp_path, max_changed=2, max_recent=1), Auditor()
    for at in range(0, len(records), 5):
        fold(watch, records[at : at + 5])
        fold(auditor, records[at : at + 5])
        watch.end_round()
        assert_equal(watch, auditor, all_placed=False)


def test_logs_read_one_after_the_other_agree_at_the_end_of_the_round(tmp_path: Path) -> None:
    """Within a round effects may come before their causes."""
    system = SimulatedSystem(120, 7, tmp_path)
    system.run()
    watch, auditor = open_audit(tmp_path, max_changed=30, max_recent=10), Auditor()
    for topic in sorted(system.topics, reverse=True):
        if topic != "groups.inbox.v1":
            watch.take(topic, system.topics[topic])
            auditor.take(topic, system.topics[topic])
    assert watch.totals.across == {}
    watch.end_round()
    assert_equal(watch, auditor)


@pytest.mark.parametrize(("failing", "charged", "pieces"), [("", 3, 4), ("d", 2, 3), ("bd", 1, 2), ("abd", 0, 0)])
def test_a_kept_price_is_that_of_the_groups_service(failing: str, charged: int, pieces: int, tmp_path: Path) -> None:
    """Three members complete at 79.00. Ann has two pieces, Bob and Dan have one each."""
    edits: dict[str, Edit] = {}
    for order in failing:
        edits[f"capture {order}"] = put_first(pe.capture_declined(order))
        edits[f"settle {order}"] = put_first(ge.member_declined(order))
    logs = completed_group(edits)
    watch = open_audit(tmp_path)
    for topic, records in ((ORDERS, logs.facts), (GROUP_LOG, logs.groups), (PAYMENT_LOG, logs.payments)):
        watch.take(topic.name, records)
        watch.end_round()
    expected = kept_price_cost(terms_of(terms().SerializeToString()), 7_900, charged, pieces)
    assert bool(expected) is (0 < charged < 3)
    kept = {"mug": {"CNY": KeptPrice(1, expected)}} if expected else {}
    assert watch.totals.kept_prices == kept


def put_first(event: Any) -> Edit:
    """An edit that replaces the first event of a step."""

    def edit(events: list[Any]) -> None:
        events[0] = event

    return edit
