"""Replay reports every decision that the rules did not make. Method: a counting rule, its log, and changed logs."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent, GroupExpired

from eventlog.core.aggregate import Aggregate, decide
from ops.log.rerun.replay import Replay
from shared_kernel.topics import GROUP_LOG


@dataclass
class Line:
    offset: int
    value: bytes
    key: bytes = b"k"
    partition: int = 0
    timestamp: int = 1000


@dataclass
class Count:
    inputs: int = 0


class Counting:
    """Counts inputs. An empty input yields no decision."""

    def initial(self, key: str) -> Count:
        return Count()

    def decode_input(self, value: bytes) -> bytes:
        return value

    def decide(self, state: Count, command: bytes, at_ms: int) -> Generator[GroupEvent, None, None]:
        if command:
            yield GroupEvent(expired=GroupExpired(members=state.inputs + 1))

    def evolve(self, state: Count, event: GroupEvent, at_ms: int) -> None:
        state.inputs = event.expired.members

    def faulted(self, state: Count, command: bytes, error: str) -> Generator[GroupEvent, None, None]:
        raise AssertionError(error)
        yield

    def due(self, state: Count) -> int | None:
        return None

    def tick(self, due_ms: int) -> bytes:
        return b""

    def encode_decision(
        self, key: str, version: int, cause: int, time_ms: int, previous: bytes, events: list[Any]
    ) -> bytes:
        made = GroupDecision(group=key, version=version, cause=cause, time_ms=time_ms, previous_sha256=previous)
        made.events.extend(events)
        return made.SerializeToString()

    def decode_decision(self, value: bytes) -> Any:
        return GroupDecision.FromString(value)


INPUTS = [Line(0, b"a"), Line(1, b""), Line(2, b"b"), Line(3, b"c"), Line(4, b"d", key=b"other")]


def log(inputs: list[Line]) -> list[Line]:
    domain = Counting()
    made: list[Line] = []
    states: dict[bytes, Aggregate[Count]] = {}
    for one in inputs:
        state = states.setdefault(one.key, Aggregate(one.key.decode(), Count()))
        sealed = decide(domain, state, one.value, one.offset, one.timestamp)
        if sealed is not None:
            made.append(Line(len(made), sealed, one.key))
    return made


def played(decisions: list[Line], inputs: list[Line], begins_at: int = 0) -> Replay:
    replay = Replay(Counting(), GROUP_LOG)
    replay.take_log(decisions)
    replay.inbox_begins_at(0, begins_at)
    replay.take_inbox(inputs)
    return replay


def test_a_correct_log_is_replayed_without_a_difference() -> None:
    result = played(log(INPUTS), INPUTS).finish()
    assert result.differences == []
    assert (result.aggregates, result.inputs, result.decisions, result.not_yet_logged) == (2, 5, 4, 0)


def test_duplicates_in_the_log_are_ignored() -> None:
    decisions = log(INPUTS)
    replay = played([*decisions, decisions[0]], INPUTS)
    assert replay.finish().differences == []
    assert replay.digest() == played(decisions, INPUTS).digest()


def test_a_decision_that_the_rules_did_not_make_is_reported() -> None:
    decisions = log(INPUTS)
    spoilt = GroupDecision.FromString(decisions[1].value)
    spoilt.events[0].expired.members = 99
    decisions[1].value = spoilt.SerializeToString()
    replay = played(decisions, INPUTS)
    assert replay.finish().differences == ["groups.group.v1 k: version 2 is decided differently"]
    assert replay.digest() == played(decisions, INPUTS).digest()


def test_a_changed_end_of_the_log_changes_the_digest() -> None:
    decisions = log(INPUTS)
    assert played(decisions, INPUTS).digest() != played(decisions[:-1], INPUTS).digest()


def test_a_decision_without_an_input_is_reported() -> None:
    assert played(log(INPUTS), INPUTS[:3]).finish().differences == [
        "groups.group.v1 k: 1 decisions without an input",
        "groups.group.v1 other: 1 decisions without an input",
    ]


def test_a_decision_that_is_not_logged_yet_is_no_difference() -> None:
    result = played(log(INPUTS)[:2], INPUTS).finish()
    assert result.differences == []
    assert result.not_yet_logged == 2


@pytest.mark.parametrize("begins_at", [1, 3])
def test_groups_that_began_before_the_inbox_are_omitted(begins_at: int) -> None:
    kept = [one for one in INPUTS if one.offset >= begins_at]
    result = played(log(INPUTS), kept, begins_at).finish()
    assert result.differences == []
    assert result.skipped == 1
