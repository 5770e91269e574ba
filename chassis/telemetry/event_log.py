"""The log of business events: one line at info for each event that a service decides, with its group, order and trace.

A line costs as much as half a decision, so the lines of a process are limited to a rate; those beyond it are counted
and reported. Lines carry ids, amounts and enumerated reasons, never a customer, a token or a text that others wrote:
`groupbuy-ops show` and `trace` have the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from chassis.admission.rate_limit import RateLimit, TokenBucket
from chassis.telemetry.logging import FIELDS
from eventlog.processors.observed_decisions import ObservedDecision
from eventlog.records.traceparent import parse

#: Seconds between two lines about events that were left out.
REPORT_S = 10.0
#: Lines that a pause saves up, in seconds of the rate.
BURST_S = 5.0


class BusinessEvent(NamedTuple):
    """One event: its name, and its fields by name."""

    name: str
    fields: Mapping[str, str | int]


#: Names the business events of a decision record.
Describe = Callable[[bytes], Iterable[BusinessEvent]]


class EventLog:
    """Writes business events, at most `per_second` lines on average. With 0 it writes none."""

    def __init__(self, name: str, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`name` is that of the logger; `clock` in seconds."""
        self._log = logging.getLogger(name)
        self._lines = TokenBucket(RateLimit(per_second, int(per_second * BURST_S)), clock) if per_second else None
        self._clock = clock
        self._left_out = 0
        self._reported_at = clock()

    def room(self) -> int:
        """Lines that may be written now."""
        if self._lines is None or not self._log.isEnabledFor(logging.INFO):
            return 0
        return self._lines.available()

    def write(self, event: BusinessEvent, trace_id: str = "") -> None:
        """Writes one event, also without room: one decision may have several."""
        if self._lines is None:
            return
        self._lines.overdraw()
        fields = {"trace": trace_id, **event.fields} if trace_id else event.fields
        self._log.info(event.name, extra={FIELDS: fields})

    def leave_out(self, count: int) -> None:
        """Counts events without room, and reports their number from time to time."""
        self._left_out += count
        if self._left_out and self._lines is not None:
            now = self._clock()
            if now - self._reported_at >= REPORT_S:
                self._log.info("business events were left out", extra={FIELDS: {"left_out": self._left_out}})
                self._left_out = 0
                self._reported_at = now


class DecisionEventLog:
    """Writes the business events of decisions: an observer of a decider."""

    def __init__(self, log: EventLog, describe: Describe) -> None:
        self._log = log
        self._describe = describe

    def room(self) -> int:
        """See DecisionObserver."""
        return self._log.room()

    def take(self, decisions: Sequence[ObservedDecision], left_out: int) -> None:
        """See DecisionObserver."""
        for decision in decisions:
            trace = None if decision.traceparent is None else parse(decision.traceparent.decode(errors="replace"))
            for event in self._describe(decision.value):
                self._log.write(event, "" if trace is None else trace.trace_id)
        self._log.leave_out(left_out)


def fields_of(message: Any, *names: str) -> dict[str, str | int]:
    """The fields of a protobuf message by name, without empty ones."""
    return {name: value for name in names if (value := getattr(message, name))}
