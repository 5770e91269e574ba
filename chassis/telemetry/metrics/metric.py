"""The description of a metric, and the labels that metrics may have.

The values of every label come from a closed set. Partitions, customers, orders, groups and campaigns are never labels:
a process adds its partitions up or reports the worst one, and `groupbuy-ops lag` shows single partitions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """The type of a metric, as Prometheus names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(StrEnum):
    """The processes that serve a metric."""

    SERVICES = "services"
    PAYMENTS = "payments"
    WATCH = "watch"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    #: Name in queries, with `_total` for a counter and without `_bucket`, `_sum`, `_count` for a histogram.
    name: str
    kind: Kind
    unit: str
    #: Names of the labels.
    labels: tuple[str, ...]
    meaning: str
    source: Source = Source.SERVICES
    #: Upper bounds of a histogram's buckets, without +Inf.
    buckets: tuple[float, ...] = field(default=(), repr=False)


#: Labels, each with its closed set of values.
LABELS: dict[str, str] = {
    "check": "broker, processors, publisher, partitions",
    "consumer_group": "the consumer groups of the topic registry",
    "currency": "ISO 4217 codes of the log's amounts",
    "end": "orders: settled, refused, cancelled, expired, failed, released; groups: settled, expired, cancelled",
    "flow": "held, captured, voided, lapsed, refunded",
    "generation": "0, 1, 2",
    "grpc_code": "gRPC status codes",
    "grpc_method": "methods of the protos",
    "grpc_service": "services of the protos",
    "grpc_type": "unary, client_stream, server_stream, bidi_stream",
    "invariant": "numbers of the audit's invariants",
    "kind": "unary, stream, operation",
    "older_than": "0, 1h, 1d, 5d",
    "operation": "authorise, sale, capture, void, refund, check",
    "outcome": "decided, repeat, nothing, faulted",
    "provider": "simulated, stripe, wechat, unknown",
    "python": "version of the interpreter",
    "reason": "OVERLOADED, RATE_LIMITED and the other error reasons of RESOURCE_EXHAUSTED",
    "result": (
        "provider calls: done, action_required, declined, hold_gone, absent, retry_later, not_possible, news, raised; "
        "notifications: appended, ignored, foreign, refused, failed"
    ),
    "service": "orders, groups, payments",
    "topic": "the topics of the topic registry",
    "version": "version of the build",
}
