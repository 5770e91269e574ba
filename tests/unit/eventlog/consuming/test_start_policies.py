"""The start of each kind of processor, with and without a committed offset."""

from __future__ import annotations

from typing import NoReturn

import pytest
from faust.types import TP

from eventlog.consuming import start_policy
from eventlog.consuming.start_policy import after_cause, at_committed, check_in_log, from_state

INPUT = TP("inbox", 0)


class Died(Exception):
    """Replaces the end of the process."""


@pytest.fixture(autouse=True)
def _die(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(what: str, **where: object) -> NoReturn:
        raise Died(what, where)

    monkeypatch.setattr(start_policy, "abort", die)


def test_the_start_is_the_committed_offset_if_the_log_holds_it() -> None:
    assert at_committed(INPUT, 5, 5, 9) == 5


def test_a_committed_offset_outside_the_log_ends_the_process() -> None:
    with pytest.raises(Died, match="trimmed before it was read"):
        at_committed(INPUT, 4, 5, 9)
    with pytest.raises(Died, match="ends before what was read"):
        at_committed(INPUT, 10, 5, 9)
    assert check_in_log(INPUT, 7, 3, 9) == 7


@pytest.mark.parametrize(
    ("cause", "committed", "begin", "start", "level"),
    [
        (6, None, 3, 7, "WARNING"),
        (6, 5, 3, 5, ""),
        (6, 7, 3, 7, ""),
        # Beyond the last decided input: the inputs between yielded nothing, or were not decided.
        (6, 9, 3, 7, ""),
        # Offsets outside the log, which this service did not commit.
        (6, 99, 3, 7, "CRITICAL"),
        (6, 2, 3, 7, "CRITICAL"),
        # Inputs are missing: they were handled according to the committed offset.
        (1, 5, 4, 4, ""),
        (-1, 9, 0, 0, ""),
    ],
)
def test_a_decider_begins_at_the_lower_of_its_state_and_the_committed_offset(
    cause: int, committed: int | None, begin: int, start: int, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert from_state(INPUT, committed, begin, 9) is None
    assert after_cause(INPUT, cause, committed, begin, 9) == start
    assert [one.levelname for one in caplog.records] == [level] * bool(level)


@pytest.mark.parametrize("committed", [None, 3])
def test_missing_inputs_of_a_decider_end_the_process_and_name_the_recovery_command(committed: int | None) -> None:
    with pytest.raises(Died, match="offsets recover --dry-run"):
        after_cause(INPUT, 1, committed, 4, 9)


def test_a_forgotten_offset_without_a_state_ends_the_process_and_names_the_recovery_command() -> None:
    with pytest.raises(Died, match="offsets recover --dry-run"):
        at_committed(INPUT, None, 0, 9)


def test_an_empty_partition_begins_at_0() -> None:
    assert at_committed(INPUT, None, 0, 0) == 0
