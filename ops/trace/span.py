"""A span: one step of a group's life, as W3C and OpenTelemetry define it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

#: Value of a span's attribute.
Value = str | int


class Kind(Enum):
    """Kind of a span, with the number of OTLP's SpanKind."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    CONSUMER = 5


@dataclass(frozen=True, slots=True)
class Link:
    """A reference to a span of another trace, in lower-case hexadecimal."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """A span. Ids are in lower-case hexadecimal, times in milliseconds since the epoch."""

    trace_id: str
    span_id: str
    #: Id of the parent; empty for a root. The parent of a call from outside may be a span of the caller.
    parent_id: str
    name: str
    #: The service that did the work: orders, groups or payments.
    service: str
    kind: Kind
    start_ms: int
    end_ms: int
    sampled: bool
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    #: The error of a failed step; empty for a successful one.
    error: str = ""

    @property
    def duration_ms(self) -> int:
        """Duration in milliseconds."""
        return self.end_ms - self.start_ms

    def as_object(self) -> dict[str, Any]:
        """The span as JSON."""
        return {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_id": self.parent_id,
            "name": self.name,
            "service": self.service,
            "kind": self.kind.name.lower(),
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "sampled": self.sampled,
            "attributes": dict(self.attributes),
            "links": [{"trace_id": link.trace_id, "span_id": link.span_id} for link in self.links],
            "error": self.error,
        }
