"""W3C trace context of records: the header `traceparent`, and the ids of spans.

Every id is derived from the record, so two owners of a partition write the same bytes. The traceparent of an input from
outside names the caller's span, or the input's own span where the trace begins. A decision and a result pass the trace
on: in a sampled trace their traceparent names their own span, in others the bytes stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

HEADER = "traceparent"
#: Header of a result: `ce_id` of the decision that requested it. CloudEvents' extension Correlation names it so.
CAUSATION_HEADER = "ce_causationid"

_LENGTH = 55
_PATTERN = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
#: Last characters of flags, in hexadecimal, with the sampled bit.
_SAMPLED = frozenset(b"13579bdf")


class TraceContext(NamedTuple):
    """A trace and one of its spans, in lower-case hexadecimal."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse(text: str) -> TraceContext | None:
    """Parses a traceparent; None if it is invalid. Of later versions it reads the fields of version 00."""
    if len(text) < _LENGTH or (len(text) > _LENGTH and (text.startswith("00") or text[_LENGTH] != "-")):
        return None
    match = _PATTERN.fullmatch(text, 0, _LENGTH)
    if match is None:
        return None
    return TraceContext(match[1], match[2], bool(int(match[3], 16) & 1))


def span_id(source: str, ce_id: str) -> str:
    """Id of the span of a record: the first 8 bytes of the SHA-256 of `ce_source` and `ce_id`, which identify it.

    `ce_id` alone does not: the decisions of two services on one group have the same.
    """
    return sha256(f"{source} {ce_id}".encode()).hexdigest()[:16]


def result_id(ce_id: str, causation: str) -> str:
    """Identifies a result for `span_id`: a call that is made again for a later decision has the same `ce_id`."""
    return f"{ce_id} for {causation}"


def passed_on(headers: Iterable[tuple[str, bytes]], source: str, ce_id: str) -> tuple[str, bytes] | None:
    """The traceparent of a record that was caused by another one, whose headers are given; None if that has none.

    `source` and `ce_id` identify the new record.
    """
    for one in headers:
        if one[0] == HEADER:
            value = one[1]
            if len(value) == _LENGTH and value[-1] in _SAMPLED:
                return HEADER, value[:36] + span_id(source, ce_id).encode() + value[52:]
            return one
    return None
