"""The trace of the current call, and the start of traces.

A call with a valid W3C traceparent continues the caller's trace, with its sampled flag. Otherwise the order or group
that the call is about gives the trace its id, its UUID without dashes, and a share of these traces is sampled. A trace
that begins here without being sampled needs no header: its id follows from the order.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from eventlog.records.traceparent import HEADER, TraceContext, parse, span_id

#: The caller's trace in the current task; None without a valid traceparent. The request pipeline sets it.
TRACE: ContextVar[TraceContext | None] = ContextVar("trace", default=None)

#: Randomness of a trace id: its last 7 bytes, as W3C Trace Context level 2 defines it.
_RANDOM_BITS = 56


def trace_of(metadata: Iterable[tuple[str, Any]] | None) -> TraceContext | None:
    """The trace in a call's metadata. Two traceparents are as invalid as a malformed one."""
    found: TraceContext | None = None
    count = 0
    for name, value in metadata or ():
        if name == HEADER:
            count += 1
            found = parse(value) if isinstance(value, str) else None
    return found if count == 1 else None


def current_trace_id() -> str:
    """Id of the current call's trace; empty without one."""
    trace = TRACE.get()
    return "" if trace is None else trace.trace_id


class TraceStarter:
    """Gives the records of API calls their traceparent."""

    def __init__(self, share: float = 0.0) -> None:
        """`share`, 0 to 1, of the traces that begin here is sampled."""
        least = round((1 - share) * (1 << _RANDOM_BITS))
        digits = f"{least:014x}"
        #: Least end of the UUID of a sampled trace; above all ends if no trace is sampled.
        self._least = f"{digits[:2]}-{digits[2:]}" if len(digits) == 14 else "~"

    def traceparent(self, subject: str, source: str, ce_id: str) -> bytes | None:
        """The traceparent of a record, or None. `subject` is the UUID of its order or group.

        `source` and `ce_id` identify the record, see eventlog.records.traceparent.
        """
        trace = TRACE.get()
        if trace is not None:
            return str(trace).encode()
        if subject[-15:] < self._least:
            return None
        return str(TraceContext(subject.replace("-", ""), span_id(source, ce_id), True)).encode()

    def add_to(self, headers: list[tuple[str, bytes]], subject: str, source: str, ce_id: str) -> None:
        """Adds the traceparent to the headers of a record, if it has one."""
        value = self.traceparent(subject, source, ce_id)
        if value is not None:
            headers.append((HEADER, value))
