"""A group without a member, or without progress, is reported in time, once a minute, and so is its return."""

from __future__ import annotations

import logging

import pytest

from ops.watch.lag import OPTIONAL, READERS, Lags, PartitionLag
from ops.watch.liveness import NO_MEMBERS_S, NO_PROGRESS_S, Liveness
from shared_kernel.topics import GROUP_LOG, PAYMENTS_SEQUENCER

#: Kafka's session of a killed member, and the pause between two readings.
SESSION_S, POLL_S = 10.0, 2.0


def lags(*, members: int = 1, position: int = 0, end: int = 0, owner: str = "host:1") -> Lags:
    row = PartitionLag(PAYMENTS_SEQUENCER, GROUP_LOG.name, 0, position, end, end - position, 1.0, owner)
    return Lags([row], {PAYMENTS_SEQUENCER: members})


def test_a_group_without_a_member_is_reported_within_30_s_of_a_kill() -> None:
    liveness = Liveness()
    reported = next(
        at_s
        for at_s in range(0, 60, int(POLL_S))
        if liveness.observe(lags(members=1 if at_s < SESSION_S else 0), float(at_s))
    )
    assert SESSION_S + NO_MEMBERS_S <= reported <= 30


def test_a_group_that_has_a_member_again_is_no_problem(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    liveness = Liveness()
    liveness.observe(lags(members=0), 0.0)
    (problem,) = liveness.observe(lags(members=0), NO_MEMBERS_S)
    assert str(problem).startswith(f"service payments: group {PAYMENTS_SEQUENCER} has no member for 10 s")
    assert liveness.observe(lags(members=1), NO_MEMBERS_S + 1) == []
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "works again" in caplog.text
    assert liveness.observe(lags(members=0), NO_MEMBERS_S + 2) == []


def test_a_partition_without_progress_is_reported() -> None:
    liveness = Liveness()
    assert liveness.observe(lags(end=5), 0.0) == []
    assert liveness.observe(lags(position=1, end=5), NO_PROGRESS_S) == []
    assert liveness.observe(lags(position=1, end=9), 2 * NO_PROGRESS_S - 1) == []
    (problem,) = liveness.observe(lags(position=1, end=9), 2 * NO_PROGRESS_S)
    assert (problem.topic, problem.partition) == (GROUP_LOG.name, 0)
    assert "8 records to read and committed none for 30 s, owner host:1" in str(problem)
    assert liveness.observe(lags(position=9, end=9), 2 * NO_PROGRESS_S + 1) == []


def test_an_idle_group_is_no_problem() -> None:
    liveness = Liveness()
    assert not any(liveness.observe(lags(position=4, end=4), float(at_s)) for at_s in range(0, 1000, 10))


def test_a_present_problem_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    liveness = Liveness()
    for at_s in range(0, 130, 2):
        liveness.observe(lags(members=0), float(at_s))
    assert len(caplog.records) == 2


def test_committed_records_are_counted() -> None:
    liveness = Liveness()
    for position in (3, 5, 5, 9):
        liveness.observe(lags(position=position, end=9), 0.0)
    assert liveness.advanced == {PAYMENTS_SEQUENCER: 6}


def test_every_reader_of_the_registry_is_followed() -> None:
    assert {group.split(".")[1] for group in READERS} == {"orders", "groups", "payments", "inventory"}
    assert len(READERS) == 12 and READERS.keys() > OPTIONAL and len(OPTIONAL) == 5
