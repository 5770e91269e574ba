"""The audit finds no violation in the logs of the production rules, at the end and at any time before.

Method: whole evenings are simulated with both domains and the provider's ledger, with duplicates, late copies and lost
responses. The logs are audited, complete and cut off anywhere, and replayed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.audit.auditor import Auditor
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import SeatState
from ops.log.rerun.replay import Replay, domains
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG
from tests.unit.ops.simulated_system import SimulatedSystem


def audited(system: SimulatedSystem) -> Auditor:
    auditor = Auditor(with_inputs=True)
    for spec in (PAYMENT_LOG, PAYMENT_INBOX, GROUP_LOG, GROUP_INBOX, ORDERS):
        auditor.take(spec.name, system.topics[spec.name])
    return auditor


@pytest.mark.parametrize("seed", range(6))
def test_an_evening_by_the_production_rules_has_no_violation(seed: int, tmp_path: Path) -> None:
    system = SimulatedSystem(120, seed, tmp_path)
    system.run()
    report = audited(system).report(settled=True, entries=system.entries())
    assert report.findings.violations == []
    assert report.findings.alarms == []
    assert report.books_equal is True
    assert report.placed == system.evening.orders
    assert report.orders.total() == report.placed
    assert report.duplicates > 0
    assert report.groups[GroupState.COMPLETED] > 0


def test_many_orders_reach_every_final_state(tmp_path: Path) -> None:
    system = SimulatedSystem(1500, 99, tmp_path)
    system.run()
    report = audited(system).report(settled=True, entries=system.entries())
    assert report.findings.violations == []
    ends = {SeatState.SETTLED, SeatState.REFUSED, SeatState.DECLINED, SeatState.CANCELLED, SeatState.RELEASED}
    assert ends <= set(report.orders)
    assert report.groups[GroupState.EXPIRED] > 0
    assert report.money["CNY"].refunded > 0


@pytest.mark.parametrize("seed", range(3))
def test_a_run_cut_off_anywhere_is_pending_without_a_violation(seed: int, tmp_path: Path) -> None:
    system = SimulatedSystem(60, seed, tmp_path)
    checked = 0

    def check() -> None:
        nonlocal checked
        checked += 1
        report = audited(system).report(settled=False, entries=system.entries())
        assert report.findings.violations == []

    for at_ms in range(0, 40_000, 400):
        system.later(at_ms, check)
    system.run()
    assert checked == 100
    assert audited(system).report(settled=True, entries=system.entries()).clean


def test_the_log_equals_the_replay_of_the_inbox(tmp_path: Path) -> None:
    system = SimulatedSystem(120, 5, tmp_path)
    system.run()
    for inbox, log, domain in domains():
        replay = Replay(domain, log)
        replay.take_log(system.topics[log.name])
        replay.take_inbox(system.topics[inbox.name])
        result = replay.finish()
        assert result.differences == []
        assert result.decisions > 100
