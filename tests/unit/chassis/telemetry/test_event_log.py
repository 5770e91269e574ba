"""The log of business events: one line each within a rate, and a count of the others."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from chassis.telemetry.event_log import BURST_S, REPORT_S, BusinessEvent, EventLog
from chassis.telemetry.logging import FIELDS
from chassis.telemetry.redaction import REDACTED, clean_text

NAME = "services.groups.events"
SCRIPT = """
import logging, sys
from chassis.rpc.trace_context import TRACE
from chassis.telemetry import logging as chassis_logging
from chassis.telemetry.event_log import BusinessEvent, EventLog
from eventlog.records.traceparent import TraceContext
import structlog
chassis_logging.configure(level="info", form=sys.argv[1], service="groups", instance="groups-0")
event = BusinessEvent("seat reserved", {"order": "o\\u202e", "version": 3})
EventLog("services.groups.events", 10).write(event, "ab" * 16)
TRACE.set(TraceContext("cd" * 16, "12" * 8, False))
structlog.stdlib.get_logger("ours").info("during a call")
logging.getLogger("eventlog.producing.publisher").info("in a task that a call has started")
"""


def output(form: str) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT, form], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == ""
    return done.stdout


def test_a_line_is_one_json_object_with_the_same_fields_as_every_line() -> None:
    event, other, kernel = (json.loads(line) for line in output("json").splitlines())
    assert event["event"] == "seat reserved"
    assert (event["order"], event["version"], event["trace"]) == ("o\u202e", 3, "ab" * 16)
    assert (event["service"], event["instance"], event["logger"], event["level"]) == (
        "groups",
        "groups-0",
        NAME,
        "info",
    )
    assert event["timestamp"].endswith("Z")
    assert other["trace"] == "cd" * 16
    assert "trace" not in kernel
    assert other.keys() - event.keys() <= {"event"}


def test_a_line_for_a_terminal_has_the_fields_too() -> None:
    line = output("console").splitlines()[0]
    assert "seat reserved" in line
    assert "version=3" in line
    assert "\u202e" not in line


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_lines_are_limited_to_a_rate_and_the_others_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, NAME)
    clock = Clock()
    log = EventLog(NAME, 10, clock)
    room = log.room()
    assert room == 10 * BURST_S
    for _ in range(room):
        log.write(BusinessEvent("seat reserved", {}))
    assert log.room() == 0
    log.leave_out(7)
    clock.now += 1
    assert log.room() == 10
    log.leave_out(2)
    assert len(caplog.records) == room
    clock.now += REPORT_S
    log.leave_out(0)
    assert (caplog.records[-1].msg, getattr(caplog.records[-1], FIELDS)) == (
        "business events were left out",
        {"left_out": 9},
    )


def test_an_event_may_overdraw_the_room_which_is_paid_later(caplog: pytest.LogCaptureFixture) -> None:
    """One decision may have many events."""
    caplog.set_level(logging.INFO, NAME)
    clock = Clock()
    log = EventLog(NAME, 1, clock)
    for _ in range(20):
        log.write(BusinessEvent("seat reserved", {}))
    assert len(caplog.records) == 20
    clock.now += 10
    assert log.room() == 0
    clock.now += 6
    assert log.room() == 1


@pytest.mark.parametrize(("per_second", "level"), [(0, logging.INFO), (10, logging.WARNING)])
def test_a_rate_of_zero_and_a_higher_level_turn_it_off(
    caplog: pytest.LogCaptureFixture, per_second: int, level: int
) -> None:
    caplog.set_level(level, NAME)
    log = EventLog(NAME, per_second, Clock())
    assert log.room() == 0
    log.leave_out(5)
    assert not caplog.records


@pytest.mark.parametrize("text", ['customer: "ann-7"', "leader_customer='ann-7'", "{'inviter': 'ann-7'}"])
def test_the_ids_of_people_are_redacted_as_secrets_are(text: str) -> None:
    assert "ann-7" not in clean_text(text)
    assert REDACTED in clean_text(text)
