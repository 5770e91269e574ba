"""The record of a process's runs in its state directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis.lifecycle.run_record import KILLED, NAME, RunRecord


def test_the_first_run_has_none_before_it(tmp_path: Path) -> None:
    first = RunRecord(tmp_path)
    assert (first.starts, first.last_code) == (1, None)


@pytest.mark.parametrize("code", [0, 2, 70])
def test_a_run_knows_how_the_one_before_it_ended(tmp_path: Path, code: int) -> None:
    RunRecord(tmp_path).end(code)
    second = RunRecord(tmp_path)
    assert (second.starts, second.last_code) == (2, code)


def test_a_run_without_a_recorded_end_was_killed(tmp_path: Path) -> None:
    for expected in (None, KILLED, KILLED):
        assert RunRecord(tmp_path).last_code == expected


def test_the_last_recorded_code_counts(tmp_path: Path) -> None:
    run = RunRecord(tmp_path)
    run.end(70)
    run.end(0)
    assert RunRecord(tmp_path).last_code == 0


def test_a_damaged_record_begins_again(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"what is this?")
    run = RunRecord(tmp_path)
    assert (run.starts, run.last_code) == (1, None)
    run.end(0)
    assert RunRecord(tmp_path).starts == 2, "the record is usable again"
