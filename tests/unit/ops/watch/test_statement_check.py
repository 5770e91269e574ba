"""A provider's statement is compared in steps, with the audit's result, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.watch.folding.incremental import IncrementalAudit
from ops.watch.folding.statement_check import Compared, StatementCheck
from tests.unit.ops.simulated_system import SimulatedSystem
from tests.unit.ops.watch.folding import fold, open_audit, timeline

LATER_MS = 10**13


async def streamed(entries: Sequence[StatementEntry]) -> AsyncIterator[StatementEntry]:
    for entry in entries:
        yield entry


@pytest.fixture
def system(tmp_path: Path) -> SimulatedSystem:
    made = SimulatedSystem(80, 21, tmp_path)
    made.run()
    return made


@pytest.fixture
def audit(system: SimulatedSystem, tmp_path: Path) -> IncrementalAudit:
    made = open_audit(tmp_path, partitions=1)
    fold(made, timeline(system.topics))
    made.end_round()
    return made


async def compared(
    audit: IncrementalAudit,
    directory: Path,
    entries: Sequence[StatementEntry],
    at_ms: int = LATER_MS,
    provider: str = "simulated",
) -> Compared:
    check = StatementCheck(audit.cases, directory / "scratch", provider, at_ms)
    await check.load(streamed(entries), 1, {0})
    steps = 1
    while not check.step(limit=3):
        steps += 1
    assert steps > 3
    assert not (directory / "scratch").exists()
    return check.result


async def test_an_equal_statement_has_no_difference(
    system: SimulatedSystem, audit: IncrementalAudit, tmp_path: Path
) -> None:
    found = await compared(audit, tmp_path, system.entries())
    assert (found.differences, found.left_out, found.texts) == (0, 0, [])
    assert found.entries == len(system.entries())


def amount(entry: StatementEntry) -> None:
    entry.captured_minor += 1


def captures(entry: StatementEntry) -> None:
    entry.captures = 2


def another_hold(entry: StatementEntry) -> None:
    entry.hold = "hold-x"


def another_group(entry: StatementEntry) -> None:
    entry.group, entry.hold = "no-such-group", "hold-y"


@pytest.mark.parametrize(
    ("edit", "differences", "text"),
    [
        (amount, 1, "in the statement"),
        (captures, 1, "2 times"),
        # The hold of ours is missing, and the other one is not in the log.
        (another_hold, 2, "is not in the provider's statement"),
        (another_group, 2, "belongs to group no-such-group, which is not in the log"),
    ],
)
async def test_a_difference_is_found(
    edit: Callable[[StatementEntry], None],
    differences: int,
    text: str,
    system: SimulatedSystem,
    audit: IncrementalAudit,
    tmp_path: Path,
) -> None:
    entries = system.entries()
    edit(next(entry for entry in entries if entry.captures == 1))
    found = await compared(audit, tmp_path, entries)
    assert found.differences == differences
    assert text in " ".join(found.texts)


async def test_a_group_with_newer_records_is_left_out(
    system: SimulatedSystem, audit: IncrementalAudit, tmp_path: Path
) -> None:
    found = await compared(audit, tmp_path, [], at_ms=0)
    assert found.differences == 0
    assert found.left_out == len(audit.cases.cases(limit=10_000))


async def test_holds_of_another_provider_are_not_expected(audit: IncrementalAudit, tmp_path: Path) -> None:
    assert (await compared(audit, tmp_path, [], provider="stripe")).differences == 0


async def test_the_holds_of_another_provider_are_compared_if_the_statement_lists_them(
    system: SimulatedSystem, audit: IncrementalAudit, tmp_path: Path
) -> None:
    entries = system.entries()
    assert (await compared(audit, tmp_path, entries, provider="stripe")).texts == []
    amount(next(entry for entry in entries if entry.captures == 1))
    assert (await compared(audit, tmp_path, entries, provider="stripe")).differences == 1


async def test_entries_of_another_workers_partitions_are_ignored(
    system: SimulatedSystem, audit: IncrementalAudit, tmp_path: Path
) -> None:
    check = StatementCheck(audit.cases, tmp_path / "scratch", "simulated", LATER_MS)
    await check.load(streamed(system.entries()), 1, set())
    assert check.result.entries == 0
    check.close()
