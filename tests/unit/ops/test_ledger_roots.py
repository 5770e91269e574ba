"""A file of roots reveals any rewriting of the payment log, with the changed decisions.

Method: a correct log, its roots in a file, and one forgery each. A careful forger rewrites the chain, too.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from ops.audit.findings import Findings, Invariant
from ops.errors import OpsError
from ops.ledger import root_files
from ops.ledger.root_files import RootCollector
from tests.scenarios.facts import GROUP
from tests.unit.ops.scripted_logs import Line, completed_group, expired_group

Forgery = Callable[[list[Line]], list[Line]]


def exported(lines: list[Line], path: Path) -> Path:
    collector = RootCollector()
    collector.ledger.take(lines)
    root_files.write(path, collector.finish())
    return path


def found(path: Path, lines: list[Line]) -> list[str]:
    """The violations of a current log against an earlier file."""
    wanted = root_files.read(path)
    collector, findings = RootCollector(wanted), Findings()
    collector.ledger.take(lines)
    root_files.compare(wanted, collector, findings)
    assert all(one.invariant is Invariant.CHAIN for one in findings.violations)
    return [str(one) for one in findings.violations]


def changed(lines: list[Line], at: int, change: Callable[[PaymentDecision], None]) -> list[Line]:
    decision = PaymentDecision.FromString(lines[at].value)
    change(decision)
    forged = Line(lines[at].offset, decision.SerializeToString())
    return [*lines[:at], forged, *lines[at + 1 :]]


def with_new_chain(lines: list[Line]) -> list[Line]:
    """The lines with a valid chain, as a careful forger writes them."""
    rewritten: list[Line] = []
    for version, line in enumerate(lines, 1):
        decision = PaymentDecision.FromString(line.value)
        decision.version = version
        decision.previous_sha256 = sha256(rewritten[-1].value).digest() if rewritten else b""
        rewritten.append(Line(line.offset, decision.SerializeToString()))
    return rewritten


def cheaper(decision: PaymentDecision) -> None:
    """Captures one yuan less."""
    decision.events[0].captured.amount_minor -= 100
    decision.events[0].captured.released_minor += 100


@pytest.fixture
def log() -> list[Line]:
    return completed_group().payments


@pytest.fixture
def file(log: list[Line], tmp_path: Path) -> Path:
    return exported(log, tmp_path / "roots.json")


def test_an_unchanged_log_and_its_duplicates_pass(file: Path, log: list[Line]) -> None:
    assert found(file, log) == []
    repeated = [Line(len(log) + number, line.value) for number, line in enumerate(log[-2:])]
    assert found(file, [*log, *repeated]) == []


def test_a_log_that_has_grown_since_passes(log: list[Line], tmp_path: Path) -> None:
    for count in range(len(log) + 1):
        path = exported(log[:count], tmp_path / f"{count}.json")
        assert found(path, log) == []


def test_a_changed_entry_is_reported(file: Path, log: list[Line]) -> None:
    at = len(log) - 1
    messages = found(file, changed(log, at, cheaper))
    assert any("the root of its first" in one and "differs from the exported one" in one for one in messages)
    assert any(f"the entry of group {GROUP} version {at + 1} was changed" in one for one in messages)


def test_a_changed_entry_in_the_middle_also_breaks_the_chain(file: Path, log: list[Line]) -> None:
    at = len(log) - 2
    messages = found(file, changed(log, at, cheaper))
    assert any(f"the entry of group {GROUP} version {at + 1} was changed" in one for one in messages)
    assert any(f"does not hold the digest of version {at + 1}" in one for one in messages)


def test_a_rewritten_chain_is_reported_from_its_first_change(file: Path, log: list[Line]) -> None:
    at = len(log) - 3
    messages = found(file, with_new_chain(changed(log, at, cheaper)))
    assert any(
        f"the chain of group {GROUP} version {at + 1} and after was rewritten, 3 decisions" in one for one in messages
    )
    assert not any("does not hold" in one for one in messages), "the forged chain is valid in itself"


@pytest.mark.parametrize("at", [-1, 3])
def test_a_removed_decision_is_reported(file: Path, log: list[Line], at: int) -> None:
    mark = sha256(log[at].value).digest()[: root_files.MARK_BYTES].hex()
    left = [line for line in log if line is not log[at]]
    messages = found(file, left)
    assert any(f"offset {log[at].offset}: the decision with digest {mark}… was removed" in one for one in messages)
    assert any("differs from the exported one" in one for one in messages)


def test_a_removed_decision_before_a_new_chain_is_reported(file: Path, log: list[Line]) -> None:
    left = [line for number, line in enumerate(log) if number != 4]
    messages = found(file, with_new_chain(left))
    assert any("offset 4" in one and "was removed" in one for one in messages)


def test_a_moved_decision_is_reported(file: Path, log: list[Line]) -> None:
    moved = [*log[:-1], Line(log[-1].offset + 7, log[-1].value)]
    assert any(f"offset {log[-1].offset}: the decision has another offset now" in one for one in found(file, moved))


def test_another_log_is_reported(file: Path) -> None:
    assert found(file, expired_group().payments)
    assert found(file, [])


def test_an_edited_file_is_reported_as_a_difference(file: Path, log: list[Line]) -> None:
    roots = root_files.read(file)
    (day,) = roots.values()
    day.root = "0" * 64
    root_files.write(file, roots)
    assert len(found(file, log)) == 1


def test_a_file_reads_back_as_written(file: Path) -> None:
    roots = root_files.read(file)
    root_files.write(file, roots)
    assert root_files.read(file) == roots


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        ("[]", "TypeError"),
        ("{}", "KeyError"),
        ('{"format": 2, "topic": "payments.payment.v1", "roots": []}', "its format is 2"),
        ('{"format": 1, "topic": "groups.group.v1", "roots": []}', "of topic groups.group.v1"),
        ('{"format": 1, "topic": "payments.payment.v1", "roots": [{}]}', "KeyError"),
    ],
)
def test_an_invalid_file_is_refused_with_the_reason(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "roots.json"
    path.write_text(content)
    with pytest.raises(OpsError, match="not a valid file of `groupbuy-ops ledger roots`") as refused:
        root_files.read(path)
    assert why in str(refused.value)
    assert refused.value.exit_code == 2
