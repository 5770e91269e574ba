"""The incremental audit continues after a restart, and its memory does not grow with the number of groups."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from groupbuy.orders.v1.facts_pb2 import OrderFact

from eventlog.records.log_position import LogIdentity
from eventlog.state.database import Database
from ops.audit.cases import Case
from ops.audit.fold import Place
from ops.watch.folding.case_codec import STAMP
from ops.watch.folding.incremental import IncrementalAudit
from ops.watch.folding.totals import Totals
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG
from tests.unit.ops.scripted_logs import Line, ScriptedLogs, completed_group, opening
from tests.unit.ops.simulated_system import SimulatedSystem
from tests.unit.ops.watch.folding import Timeline, fold, timeline


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    system = SimulatedSystem(80, 3, tmp_path_factory.mktemp("books"))
    system.run()
    return timeline(system.topics)


def continued(directory: Path, identity: LogIdentity | None = None, **limits: int) -> tuple[Database, IncrementalAudit]:
    database = Database(directory / "watch", STAMP, *([identity] if identity else []))
    return database, IncrementalAudit(database, 1, (), **limits)


def sums(audit: IncrementalAudit) -> dict[str, Any]:
    """The totals, without texts and without entries that are zero."""
    found = {name: getattr(audit.totals, name) for name in Totals.__struct_fields__ if name != "texts"}
    return {name: _nonzero(value) for name, value in found.items()}


def _nonzero(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: kept for name, one in value.items() if (kept := _nonzero(one))}


def test_it_continues_where_the_state_ends(records: Timeline, tmp_path: Path) -> None:
    whole_state, whole = continued(tmp_path / "whole")
    fold(whole, records)
    whole.end_round()
    for cut in (1, len(records) // 3, len(records) // 2, len(records) - 1):
        directory = tmp_path / str(cut)
        database, before = continued(directory, max_changed=7, max_recent=3)
        fold(before, records[:cut])
        database.close()  # Within a round: some cases are written, others are not.
        database, after = continued(directory, max_changed=7, max_recent=3)
        positions = after.positions()
        left = [(topic, one) for topic, one in records if one.offset >= positions.get((topic, one.partition), 0)]
        assert len(left) >= len(records) - cut
        fold(after, left)
        after.end_round()
        assert sums(after) == sums(whole)
        assert list(after.open_items()) == list(whole.open_items())
        database.close()
    whole_state.close()


def test_a_record_that_is_read_again_changes_nothing_but_the_duplicates(records: Timeline, tmp_path: Path) -> None:
    _, audit = continued(tmp_path)
    decisions = [(topic, one) for topic, one in records if topic != ORDERS.name]
    fold(audit, records)
    audit.end_round()
    before, duplicates = dict(audit.totals.orders), audit.totals.duplicates
    fold(audit, decisions)
    audit.end_round()
    assert audit.totals.orders == before
    assert audit.totals.duplicates > duplicates
    assert audit.totals.violations == {}


def test_a_suspect_of_an_unfinished_round_is_evaluated_after_a_restart(tmp_path: Path) -> None:
    logs = completed_group()
    database, audit = continued(tmp_path, max_changed=1)
    # The orders are missing: within the round the group looks as if its orders had not been placed.
    audit.take(GROUP_LOG.name, logs.groups)
    assert audit.totals.violations == {}
    database.close()
    database, audit = continued(tmp_path, max_changed=1)
    assert audit.positions() == {(GROUP_LOG.name, 0): len(logs.groups)}
    audit.take(ORDERS.name, logs.facts)
    audit.take(PAYMENT_INBOX.name, logs.inbox)
    audit.take(PAYMENT_LOG.name, logs.payments)
    audit.end_round()
    assert audit.totals.violations == {}
    database.close()


def test_a_violation_between_the_logs_counts_when_the_round_ends(tmp_path: Path) -> None:
    logs = completed_group()
    _, audit = continued(tmp_path, max_changed=1)
    audit.take(GROUP_LOG.name, logs.groups)
    audit.end_round()
    assert audit.totals.violations == {8: 5}
    audit.take(ORDERS.name, logs.facts)
    audit.end_round()
    assert audit.totals.violations == {}
    assert audit.across == []


def test_damaged_state_is_set_aside_and_folded_anew(records: Timeline, tmp_path: Path) -> None:
    database, audit = continued(tmp_path)
    fold(audit, records)
    audit.end_round()
    database.close()
    for table in (tmp_path / "watch").glob("*.sst"):
        table.write_bytes(b"\0" * table.stat().st_size)
    (tmp_path / "watch" / "CURRENT").write_text("nothing\n")
    database, audit = continued(tmp_path)
    assert audit.positions() == {}
    assert (tmp_path / "watch.set-aside").is_dir()
    fold(audit, records)
    audit.end_round()
    assert audit.totals.violations == {}
    assert audit.totals.records == len(records)
    database.close()


def test_the_state_of_another_log_is_set_aside(records: Timeline, tmp_path: Path) -> None:
    mine, other = (LogIdentity(name, 1, {GROUP_LOG.name: "1"}) for name in ("mine", "other"))
    database, audit = continued(tmp_path, mine)
    fold(audit, records)
    audit.end_round()
    database.close()
    database, audit = continued(tmp_path, other)
    assert audit.positions() == {}
    assert audit.totals.records == 0
    database.close()


def test_a_log_that_lost_unread_records_counts_as_trimmed(tmp_path: Path) -> None:
    logs = completed_group()
    database, audit = continued(tmp_path)
    assert audit.begins_at(ORDERS.name, 0, 3) == 3
    audit.take(GROUP_LOG.name, logs.groups)
    audit.end_round()
    # Orders whose facts are gone are no violation.
    assert audit.totals.violations == {}
    database.close()
    database, audit = continued(tmp_path)
    assert audit.begins_at(GROUP_LOG.name, 0, 2) == len(logs.groups)
    audit.take(GROUP_LOG.name, logs.groups[:1])
    audit.end_round()
    assert audit.totals.violations == {}
    database.close()


def test_a_skip_ends_the_violation_of_a_record_that_cannot_be_decoded(tmp_path: Path) -> None:
    _, audit = continued(tmp_path)
    audit.take(PAYMENT_INBOX.name, [Line(0, b"\xff\xff")])
    audit.end_round()
    assert audit.totals.violations == {14: 1}
    place: Place = audit.totals.unreadable[0][0]
    audit.skip({place})
    assert audit.totals.violations == {}


def objects_of(kind: type[Any]) -> int:
    gc.collect()
    return sum(isinstance(one, kind) for one in gc.get_objects())


def test_the_number_of_cases_in_memory_does_not_grow_with_the_groups(records: Timeline, tmp_path: Path) -> None:
    facts = [(topic, one) for topic, one in records if topic == ORDERS.name]
    groups = len({one.key for _, one in facts})
    database, audit = continued(tmp_path, max_changed=5, max_recent=5)
    present = objects_of(Case)
    for evening in range(12):
        for topic, one in facts:
            # New groups that stay open.
            key = f"{evening:02}".encode() + one.key[2:]
            fold(audit, [(topic, Line(one.offset, one.value.replace(one.key, key), key))])
            assert audit.cases.in_memory <= 10
        audit.end_round()
        assert objects_of(Case) - present <= 10
    assert len(audit.cases.cases(limit=10_000)) == 12 * groups
    assert audit.totals.pending == 12 * len({OrderFact.FromString(one.value).order for _, one in facts})
    database.close()


def test_a_closed_group_is_not_kept_at_all(tmp_path: Path) -> None:
    logs = completed_group()
    database, audit = continued(tmp_path)
    for topic, lines in (
        (ORDERS.name, logs.facts),
        (GROUP_LOG.name, logs.groups),
        (PAYMENT_INBOX.name, logs.inbox),
        (PAYMENT_LOG.name, logs.payments),
    ):
        audit.take(topic, lines)
    audit.end_round()
    assert audit.cases.in_memory == 0
    assert audit.totals.groups == {"settled": 1}
    database.close()


def test_an_open_group_stays_in_memory_and_has_open_work(tmp_path: Path) -> None:
    logs = ScriptedLogs()
    opening(logs)
    database, audit = continued(tmp_path)
    audit.take(ORDERS.name, logs.facts)
    audit.take(GROUP_LOG.name, logs.groups)
    audit.take(PAYMENT_LOG.name, logs.payments)
    audit.end_round()
    assert audit.cases.in_memory == 1
    assert {item.kind for _, item in audit.open_items()} == {"deadline"}
    assert audit.totals.holds["CNY"] == {16: [2, 26700]}
    database.close()
