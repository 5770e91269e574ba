"""Stuck work is listed with its age, its reason and the next step; work that is not due yet is not."""

from __future__ import annotations

from typing import Any

from groupbuy.payments.v1 import operator_pb2 as pb

from ops.audit.across import Scope
from ops.audit.auditor import Auditor
from ops.audit.cases import Case
from ops.audit.findings import Findings
from ops.audit.fold import LogFold
from ops.watch.folding.summary import NEAR_LAPSE_MS, summarise
from ops.watch.lag import Lags, PartitionLag
from ops.watch.stuck import Stuck, attention, overdue, standing
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG, PAYMENTS_SEQUENCER
from tests.scenarios.facts import GROUP
from tests.unit.ops.scripted_logs import DEADLINE_MS, OPENED_MS, Line, ScriptedLogs, completed_group, opening

HOUR_MS = 3_600_000


def stuck(logs: ScriptedLogs, now_ms: int, over_s: float = 60) -> list[Stuck]:
    case = Case(GROUP, Findings())
    fold = LogFold(lambda _: case, Findings())
    fold.take(ORDERS.name, logs.facts)
    fold.take(GROUP_LOG.name, logs.groups)
    fold.take(PAYMENT_INBOX.name, logs.inbox)
    fold.take(PAYMENT_LOG.name, logs.payments)
    summary, _ = summarise(case, Scope(settled=False))
    return list(overdue([(GROUP, item) for item in summary.items], now_ms, over_s))


def test_a_forming_group_is_stuck_after_its_deadline() -> None:
    logs = ScriptedLogs()
    opening(logs)
    assert stuck(logs, DEADLINE_MS + 60_000) == []
    (found,) = stuck(logs, DEADLINE_MS + 61_000)
    assert (found.kind, found.group, found.overdue_s) == ("deadline", GROUP, 61.0)
    assert "groupbuy.groups.decider" in found.next_step


def test_a_group_that_is_not_settled_is_stuck_with_the_call_that_it_waits_for() -> None:
    logs = completed_group()
    del logs.payments[-3:], logs.groups[-3:]
    found = {one.kind: one for one in stuck(logs, OPENED_MS + HOUR_MS)}
    assert set(found) == {"settlement", "call", "hold"}
    assert "3 of 3 members have no final state" in found["settlement"].why
    assert "call `capture` has no result; the payment is CAPTURING" in found["call"].why
    assert found["call"].since_ms == OPENED_MS + 41
    assert "open in a closed group" in found["hold"].why


def test_an_order_that_is_not_decided_is_stuck() -> None:
    logs = completed_group()
    logs.place("z", "zoe")
    logs.facts[-1].timestamp = OPENED_MS
    (found,) = stuck(logs, OPENED_MS + HOUR_MS)
    assert (found.kind, found.why) == ("order", "placed and not decided")
    assert "groupbuy.groups.sequencer" in found.next_step


def test_a_hold_near_its_lapse_is_stuck() -> None:
    logs = ScriptedLogs()
    opening(logs)
    until_ms = OPENED_MS + 10 * HOUR_MS
    case = Case(GROUP, Findings())
    LogFold(lambda _: case, Findings()).take(GROUP_LOG.name, logs.groups)
    LogFold(lambda _: case, Findings()).take(PAYMENT_LOG.name, logs.payments)
    for payment in case.group_payments.payments.values():
        for hold in payment.holds.values():
            hold.capturable_until_ms = until_ms
    case.group.deadline_ms = until_ms
    summary, _ = summarise(case, Scope(settled=False))
    items = [(GROUP, item) for item in summary.items]
    assert list(overdue(items, until_ms - NEAR_LAPSE_MS + 60_000, 60)) == []
    found = list(overdue(items, until_ms - NEAR_LAPSE_MS + 61_000, 60))
    assert {one.kind for one in found} == {"hold"}
    assert "will lapse before it is captured" in found[0].why


def test_a_settled_group_has_nothing_stuck() -> None:
    assert stuck(completed_group(), 10 * DEADLINE_MS) == []


def test_pending_work_of_the_audit_is_open_work(tmp_path: Any) -> None:
    """At any cut, a group with pending work has an open item, and one without has none."""
    for cut in range(1, 12):
        logs = completed_group()
        del logs.groups[cut:], logs.payments[cut:], logs.facts[cut:]
        auditor = Auditor()
        auditor.take(ORDERS.name, logs.facts)
        auditor.take(GROUP_LOG.name, logs.groups)
        auditor.take(PAYMENT_INBOX.name, logs.inbox)
        auditor.take(PAYMENT_LOG.name, logs.payments)
        assert bool(auditor.pending()) == bool(stuck(logs, 10**12))


def row(*, records: int = 3, seconds: float | None = 90.0, owner: str = "host:1") -> PartitionLag:
    return PartitionLag(PAYMENTS_SEQUENCER, GROUP_LOG.name, 2, 7, 7 + records, records, seconds, owner)


async def found_of(lags: Lags, value: bytes = b"") -> list[Stuck]:
    async def next_record(topic: str, partition: int, position: int) -> Line:
        assert (topic, partition, position) == (GROUP_LOG.name, 2, 7)
        return Line(position, value)

    return await standing(lags, next_record, 1_000_000, 60)


async def test_a_partition_with_a_record_that_cannot_be_decoded_is_quarantined() -> None:
    (found,) = await found_of(Lags([row()], {PAYMENTS_SEQUENCER: 1}), b"\xff\xff")
    assert found.kind == "quarantine"
    assert f"{PAYMENTS_SEQUENCER} in {GROUP_LOG.name} 2:7" in found.why
    assert "groupbuy-ops skip" in found.next_step
    assert found.since_ms == 1_000_000 - 90_000


async def test_a_partition_that_stands_still_names_its_owner() -> None:
    (found,) = await found_of(Lags([row()], {PAYMENTS_SEQUENCER: 1}))
    assert (found.kind, found.partition) == ("partition", 2)
    assert "3 records wait, owner host:1" in found.why
    (found,) = await found_of(Lags([row(owner="")], {PAYMENTS_SEQUENCER: 1}))
    assert "no owner" in found.why


async def test_a_group_without_a_member_is_a_service_that_does_not_run() -> None:
    (found,) = await found_of(Lags([row(owner="")], {PAYMENTS_SEQUENCER: 0}))
    assert found.kind == "service"
    assert found.next_step.startswith("start the service payments")


async def test_a_group_that_is_only_just_behind_is_not_stuck() -> None:
    assert await found_of(Lags([row(seconds=5.0)], {PAYMENTS_SEQUENCER: 1})) == []
    assert await found_of(Lags([row(records=0, seconds=0.0)], {PAYMENTS_SEQUENCER: 1})) == []


# Issues of payments -------------------------------------------------------------------------------------------------


def issue(kind: pb.IssueKind.ValueType, **fields: Any) -> pb.Issue:
    values: dict[str, Any] = {"payment": "groups/g/orders/o/payment", "amount_minor": 70, "currency": "CNY"}
    return pb.Issue(**values | {"kind": kind, "reason": "because", "version": 9} | fields)


def test_an_alarm_of_payments_is_stuck_with_the_command_that_repairs_it() -> None:
    owed = issue(pb.ISSUE_KIND_OWED, alarm=True, hold="h1")
    (found,) = attention([owed], 0, 60)
    assert (found.kind, found.group, found.order, found.why) == ("owed", "g", "o", "70 CNY: because")
    first = '`groupbuy-ops repair retry groups/g/orders/o/payment refund --reason "WHY" --expected-version 9`'
    assert found.next_step.startswith(first)


def test_work_of_payments_that_follows_by_itself_is_stuck_when_it_is_late() -> None:
    waiting = issue(pb.ISSUE_KIND_SUSPENSE, hold="h1")
    waiting.next_attempt_time.FromMilliseconds(100_000)
    assert list(attention([waiting], 160_000, 60)) == []
    (found,) = attention([waiting], 161_000, 60)
    assert found.overdue_s == 61.0
    assert "approve-return groups/g/orders/o/payment --hold h1" in found.next_step


def test_an_open_dispute_names_the_time_for_its_evidence() -> None:
    dispute = issue(pb.ISSUE_KIND_DISPUTE, alarm=True, reference="dp_1")
    dispute.next_attempt_time.FromSeconds(1_800_000_000)
    (found,) = attention([dispute], 0, 60)
    assert found.next_step == "submit the evidence of dispute dp_1 at the provider until 2027-01-15 08:00 UTC"
