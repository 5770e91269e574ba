"""Where each kind of processor begins, with and without a committed offset."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from faust.types import TP

from eventlog.transport import start
from eventlog.transport.start import at_committed, from_state_when_forgotten, within

INPUT = TP("inbox", 0)


class Died(Exception):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def _die(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(what: str, **where: object) -> NoReturn:
        raise Died(what, where)

    monkeypatch.setattr(start, "die", die)


def test_a_committed_offset_that_the_log_still_has_is_the_start() -> None:
    assert at_committed(INPUT, 5, 5, 9) == 5
    assert from_state_when_forgotten(INPUT, 9, 5, 9) == 9


@pytest.mark.parametrize("policy", [at_committed, from_state_when_forgotten])
def test_a_committed_offset_outside_the_log_ends_the_process(policy: Any) -> None:
    with pytest.raises(Died, match="trimmed before it was read"):
        policy(INPUT, 4, 5, 9)
    with pytest.raises(Died, match="ends before what was read"):
        policy(INPUT, 10, 5, 9)


def test_a_decider_takes_a_forgotten_offset_from_its_state_and_the_log_must_still_have_it() -> None:
    assert from_state_when_forgotten(INPUT, None, 3, 9) is None
    assert within(INPUT, 7, 3, 9) == 7
    with pytest.raises(Died, match="trimmed before it was read"):
        within(INPUT, 2, 3, 9)


def test_without_a_state_a_forgotten_offset_ends_the_process_and_names_the_command_that_helps() -> None:
    with pytest.raises(Died, match="groupbuy-ops offsets recover --dry-run"):
        at_committed(INPUT, None, 0, 9)


def test_a_partition_that_never_held_a_record_begins_at_0() -> None:
    assert at_committed(INPUT, None, 0, 0) == 0
