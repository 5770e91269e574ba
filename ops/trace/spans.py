"""Builds spans from records, one record at a time, in any order of the topics.

A span begins with the record that caused it and ends with its own record, by the broker's LogAppendTime; its parent is
its cause. A provider's call has the start and the end that its record states. A decision that a timer caused continues
the decision before it. So a trace is connected even where a record carries no traceparent.

    builder = SpanBuilder()
    for topic, record in records:
        export(builder.take(topic, record))
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple
from uuid import UUID

from eventlog.records.traceparent import TraceContext, span_id
from ops.trace import attributes
from ops.trace.span import Link, Span, Value
from ops.trace.step import Key, LogRecord, Step, sampled, step_of

#: Steps that are remembered as causes of later ones. One takes about 500 bytes.
MAX_REMEMBERED = 200_000
#: Steps that wait for their causes, which another topic's reader has not read yet.
MAX_WAITING = 20_000
#: Groups with a sampled trace that are remembered.
MAX_GROUPS = 100_000


class _Known(NamedTuple):
    """A step that later ones can name as their cause."""

    trace: TraceContext
    at_ms: int
    tick: bool


class SpanBuilder:
    """Joins the steps of all groups. Bounded memory: forgets the oldest steps first."""

    def __init__(
        self,
        *,
        sampled_only: bool = False,
        max_remembered: int = MAX_REMEMBERED,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """With `sampled_only` it returns the spans of sampled traces, and skips records of other groups undecoded."""
        self._sampled_only = sampled_only
        self._max_remembered = max_remembered
        self._max_waiting = max_waiting
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        #: Steps by the missing cause.
        self._waiting: OrderedDict[Key, list[Step]] = OrderedDict()
        self._number_waiting = 0
        self._groups: OrderedDict[bytes, None] = OrderedDict()

    def take(self, topic: str, record: LogRecord) -> list[Span]:
        """The spans that are complete with this record: its own, and those of steps that waited for it."""
        if self._sampled_only and not self._is_relevant(record):
            return []
        step = step_of(topic, record)
        if step is None:
            return []
        spans = self._add([step])
        while self._number_waiting > self._max_waiting:
            spans += self._give_up(next(iter(self._waiting)))
        return spans

    def flush(self) -> list[Span]:
        """The spans of all steps that wait for a cause, as roots. Call it at the end of the records."""
        spans: list[Span] = []
        while self._waiting:
            spans += self._give_up(next(iter(self._waiting)))
        return spans

    def _is_relevant(self, record: LogRecord) -> bool:
        if record.key is None:
            return False
        if sampled(record):
            self._groups[record.key] = None
            self._groups.move_to_end(record.key)
            if len(self._groups) > MAX_GROUPS:
                self._groups.popitem(last=False)
            return True
        return record.key in self._groups

    def _give_up(self, missing: Key) -> list[Span]:
        """The spans of the steps that wait for a cause that the log does not have."""
        steps = self._waiting.pop(missing)
        self._number_waiting -= len(steps)
        for step in steps:
            step.cause = None
            step.previous = None
            step.attributes[attributes.CAUSE] = "missing"
        return self._add(steps[::-1])

    def _add(self, steps: list[Step]) -> list[Span]:
        spans: list[Span] = []
        while steps:
            step = steps.pop()
            missing = self._missing(step)
            if missing is not None:
                self._waiting.setdefault(missing, []).append(step)
                self._number_waiting += 1
                continue
            known, span = self._finish(step)
            first = None if span is None else self._known.get(("span", span.span_id))
            if first is not None:
                # The record is in the log twice, because two owners wrote it: it has one span.
                step.keys, known = step.keys[-1:], first
            elif span is not None and (known.trace.sampled or not self._sampled_only):
                spans.append(span)
                step.keys.append(("span", span.span_id))
            for key in step.keys:
                self._remember(key, known)
                if key in self._waiting:
                    waiting = self._waiting.pop(key)
                    self._number_waiting -= len(waiting)
                    # In the order of the log: of two equal records the first counts.
                    steps += reversed(waiting)
        return spans

    def _missing(self, step: Step) -> Key | None:
        """The key of a cause that was not read yet; None if there is none."""
        if step.cause is None:
            return None
        cause = self._known.get(step.cause)
        if cause is None:
            # Unsampled causes are forgotten at once, so that there is nothing to wait for.
            unsampled = step.trace is not None and not step.trace.sampled
            return None if self._sampled_only and unsampled else step.cause
        if cause.tick and step.previous is not None and step.previous not in self._known:
            return step.previous
        return None

    def _remember(self, key: Key, known: _Known) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > self._max_remembered:
            self._known.popitem(last=False)

    def _finish(self, step: Step) -> tuple[_Known, Span | None]:
        """The step as a cause of later ones, and its span; None for a tick."""
        cause = self._known.get(step.cause or step.maybe or ())
        parent = None if cause is None else cause.trace
        extra: dict[str, Value] = {}
        if cause is not None and cause.tick:
            extra[attributes.TRIGGER] = "timer"
            before = self._known.get(step.previous or ())
            parent = None if before is None else before.trace
        own = span_id(step.source, step.ce_id)
        if not step.source:
            own = span_id(f"/{step.service}/inbox", parent.span_id if parent is not None else step.ce_id)
        trace, parent_id, links = _placed(step, own, parent)
        known = _Known(trace, step.at_ms, step.tick)
        if step.tick:
            return known, None
        start_ms = step.start_ms
        if start_ms is None:
            start_ms = step.at_ms if cause is None else cause.at_ms
        end_ms = step.at_ms if step.end_ms is None else step.end_ms
        return known, Span(
            trace.trace_id,
            own,
            parent_id,
            step.name,
            step.service,
            step.kind,
            # The broker's clock may go back.
            min(start_ms, end_ms),
            end_ms,
            trace.sampled,
            {**step.attributes, **extra},
            links,
            step.error,
        )


def _placed(step: Step, own: str, parent: TraceContext | None) -> tuple[TraceContext, str, tuple[Link, ...]]:
    """The trace of a step with its own span id, the id of its parent, and its links."""
    given = step.trace
    if parent is not None and (given is None or given.trace_id == parent.trace_id):
        is_sampled = parent.sampled if given is None else given.sampled
        return TraceContext(parent.trace_id, own, is_sampled), parent.span_id, ()
    if given is not None:
        # A call from outside: its traceparent names the caller's span, or its own if the trace began here.
        links = () if parent is None else (Link(parent.trace_id, parent.span_id),)
        outside = "" if given.span_id == own else given.span_id
        return given._replace(span_id=own), outside, links
    return TraceContext(_derived(step.subject), own, False), "", ()


def _derived(subject: str) -> str:
    """The trace id of an order or a group without a traceparent: its UUID without dashes."""
    try:
        return UUID(subject).hex
    except ValueError:
        return span_id("", subject) * 2
