"""Reads one record of the log as a step of a trace: its span's fields, and the key of the record that caused it.

Every step is derived from its record alone. `ops.trace.spans` joins the steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.log.v1.log_pb2 import Source
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, OUTCOME_ORIGIN_LOOKUP, PaymentInput, ProviderOutcome

from eventlog.records.envelope import header
from eventlog.records.topic_spec import TopicSpec
from eventlog.records.traceparent import CAUSATION_HEADER, HEADER, TraceContext, parse, result_id
from ops.trace import attributes
from ops.trace.span import Kind, Value
from shared_kernel import call_header
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG

#: Topics whose records are steps, in the order of cause and effect.
TOPICS = (ORDERS, GROUP_INBOX, GROUP_LOG, PAYMENT_INBOX, PAYMENT_LOG)
#: Key of a step: (topic, partition, offset) of any record, (topic, group, version) of a decision, and (group, order,
#: operation, attempt) of the last decision that requests a provider call.
Key: TypeAlias = "tuple[str | int, ...]"

#: Kinds of events that the name of a decision's span lists.
_MAX_NAMED = 3


class LogRecord(Protocol):
    """The fields of a record that a step needs. aiokafka's ConsumerRecord has them."""

    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int: ...  # noqa: D102 - LogAppendTime, in milliseconds since the epoch
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...  # noqa: D102


@dataclass(slots=True)
class Step:
    """One step. A field with a default does not apply to every kind of record."""

    keys: list[Key]
    name: str
    service: str
    kind: Kind
    #: CloudEvents source and id of the record; `source` empty for a copy, which is identified by its cause.
    source: str
    ce_id: str
    #: Trace id of a root without a traceparent: the UUID of its order or group.
    subject: str
    at_ms: int
    trace: TraceContext | None
    #: The step that caused this one.
    cause: Key | None = None
    #: A step that caused this one if the traces hold it.
    maybe: Key | None = None
    #: The decision before, which a decision continues if a timer caused it.
    previous: Key | None = None
    #: Start, if it is not that of the cause's record.
    start_ms: int | None = None
    #: End, if it is not that of the record.
    end_ms: int | None = None
    #: A tick: no span of its own.
    tick: bool = False
    attributes: dict[str, Value] = field(default_factory=dict)
    error: str = ""


def step_of(topic: str, record: LogRecord) -> Step | None:
    """The step of a record; None for a record of another topic, and for one that can't be decoded."""
    read = _READERS.get(topic)
    if read is None or record.key is None or record.value is None:
        return None
    try:
        step = read(record, record.key.decode(), record.value)
    except (DecodeError, UnicodeDecodeError, ValueError):
        return None
    if step is None:
        return None
    step.keys.append((topic, record.partition, record.offset))
    found: dict[str, Value] = {
        attributes.SYSTEM: attributes.KAFKA,
        attributes.TOPIC: topic,
        attributes.PARTITION: str(record.partition),
        attributes.OFFSET: record.offset,
        attributes.GROUP: record.key.decode(),
    }
    step.attributes = found | step.attributes
    return step


def sampled(record: LogRecord) -> bool | None:
    """The sampled flag of a record's traceparent; None without one."""
    trace = _trace(record)
    return None if trace is None else trace.sampled


def _trace(record: LogRecord) -> TraceContext | None:
    text = header(record.headers, HEADER)
    return None if text is None else parse(text)


def _sent_ms(record: LogRecord) -> int:
    """The time at which the record's writer made it, by the writer's clock and at most its LogAppendTime."""
    try:
        sent = datetime.fromisoformat(header(record.headers, "ce_time") or "")
        return min(round(sent.timestamp() * 1_000), record.timestamp)
    except ValueError:
        return record.timestamp


def _request(
    record: LogRecord, name: str, service: str, source: str, ce_id: str, subject: str, order: str = ""
) -> Step:
    """A record that a call of the API appended."""
    return Step(
        [], name, service, Kind.SERVER, source, header(record.headers, "ce_id") or ce_id, subject, record.timestamp,
        _trace(record), start_ms=_sent_ms(record), attributes={attributes.ORDER: order} if order else {},
    )  # fmt: skip


def _fact(record: LogRecord, key: str, value: bytes) -> Step | None:
    fact = OrderFact.FromString(value)
    body = fact.WhichOneof("body")
    if body == "placed":
        name, ce_id = "PlaceOrder", f"{fact.order}:placed"
    elif body == "cancel_requested":
        name, ce_id = "CancelOrder", f"{fact.order}:cancel_requested:{fact.cancel_requested.request_id}"
    else:
        return None
    return _request(record, name, "orders", "/groupbuy/orders", ce_id, fact.order, fact.order)


def _copy(record: LogRecord, service: str, source: Source, what: str, key: str) -> Step:
    """A record that a sequencer copied."""
    cause: Key = (source.topic, source.partition, source.offset)
    ce_id = header(record.headers, "ce_id") or f"{source.topic}:{source.partition}:{source.offset}"
    return Step(
        [], f"sequence {what}", service, Kind.CONSUMER, "", ce_id, key, record.timestamp, _trace(record), cause=cause
    )


def _tick(record: LogRecord, service: str, key: str) -> Step:
    return Step([], "tick", service, Kind.INTERNAL, "", "", key, record.timestamp, None, tick=True)


def _group_input(record: LogRecord, key: str, value: bytes) -> Step | None:
    given = GroupInput.FromString(value)
    body = given.WhichOneof("body")
    if body == "tick":
        return _tick(record, "groups", key)
    if body == "cancel_group":
        ce_id = f"{key}:cancel:{given.cancel_group.request_id}"
        return _request(record, "CancelGroup", "groups", "/groupbuy/groups", ce_id, key)
    if body is None or not given.HasField("source"):
        return None
    return _copy(record, "groups", given.source, body.replace("_", " "), key)


def _payment_input(record: LogRecord, key: str, value: bytes) -> Step | None:
    given = PaymentInput.FromString(value)
    body = given.WhichOneof("body")
    if body == "tick":
        return _tick(record, "payments", key)
    if body == "refund":
        refund = given.refund
        ce_id = f"{refund.order}:refund:{refund.refund}"
        return _request(record, "RefundPayment", "payments", "/groupbuy/payments", ce_id, refund.order, refund.order)
    if body == "outcome":
        return _outcome(record, key, given.outcome)
    if body is None or not given.HasField("source"):
        return None
    return _copy(record, "payments", given.source, body.replace("_", " "), key)


def _outcome(record: LogRecord, key: str, outcome: ProviderOutcome) -> Step:
    """The result of a provider's call, with the call's own times, or a notification."""
    operation = _operation(outcome.operation)
    result = outcome.WhichOneof("result") or "none"
    of_call = outcome.origin in {OUTCOME_ORIGIN_CALL, OUTCOME_ORIGIN_LOOKUP}
    ce_id = header(record.headers, "ce_id") or f"{outcome.order}:{operation}:{outcome.attempt}:{result}"
    causation = header(record.headers, CAUSATION_HEADER) or ""
    requested: Key = (key, outcome.order, operation, outcome.attempt)
    step = Step(
        [],
        f"provider {operation}" if of_call else f"notification of {operation}",
        "payments",
        Kind.CLIENT if of_call else Kind.SERVER,
        header(record.headers, "ce_source") or "/payments",
        result_id(ce_id, causation or f"{record.partition}:{record.offset}"),
        outcome.order,
        record.timestamp,
        _trace(record),
        maybe=requested,
        attributes={
            attributes.ORDER: outcome.order,
            attributes.OPERATION: operation,
            attributes.ATTEMPT: outcome.attempt,
            attributes.RESULT: result,
        },
        error="unknown or temporarily impossible" if result == "retry_later" else "",
    )
    if not of_call:
        step.start_ms = _sent_ms(record)
        return step
    version = causation.rpartition(":")[2]
    step.cause, step.maybe = (PAYMENT_LOG.name, key, int(version)) if version.isdigit() else requested, None
    timing = call_header.parse(header(record.headers, call_header.HEADER) or "")
    if timing is not None:
        # By the clock of the process that made the call; its end is at most the record's time.
        step.end_ms = min(timing.start_ms + timing.duration_ms, record.timestamp)
        step.start_ms = step.end_ms - timing.duration_ms
        step.attributes[attributes.REQUESTS] = timing.requests
    return step


def _decision(
    record: LogRecord, key: str, decision: GroupDecision | PaymentDecision, inbox: TopicSpec, log: TopicSpec
) -> Step:
    version = decision.version
    kinds = Counter(event.WhichOneof("body") or "unknown" for event in decision.events[:])
    named = [kind if count == 1 else f"{kind} x{count}" for kind, count in kinds.items()]
    more = [f"{len(named) - _MAX_NAMED} more"] if len(named) > _MAX_NAMED else []
    made: dict[str, Value] = {attributes.VERSION: version, attributes.EVENTS: ",".join(kinds)}
    orders = {order for event in decision.events[:] for order in _orders(event)}
    if len(orders) == 1:
        made[attributes.ORDER] = orders.pop()
    return Step(
        [(log.name, key, version)],
        ", ".join((named[:_MAX_NAMED] + more) or ["no event"]).replace("_", " "),
        log.writer,
        Kind.INTERNAL,
        f"/{log.writer}",
        f"{key}:{version}",
        key,
        record.timestamp,
        _trace(record),
        cause=(inbox.name, record.partition, decision.cause),
        previous=(log.name, key, version - 1) if version > 1 else None,
        attributes=made,
        error="the rules failed" if "faulted" in kinds else "",
    )


def _orders(event: Any) -> Iterable[str]:
    body = event.WhichOneof("body")
    inner = getattr(event, body) if body else None
    if inner is None:
        return ()
    names = inner.DESCRIPTOR.fields_by_name
    if "call" in names:
        return (inner.call.order,)
    return (inner.order,) if "order" in names else ()


def _group_decision(record: LogRecord, key: str, value: bytes) -> Step:
    return _decision(record, key, GroupDecision.FromString(value), GROUP_INBOX, GROUP_LOG)


def _payment_decision(record: LogRecord, key: str, value: bytes) -> Step:
    decision = PaymentDecision.FromString(value)
    step = _decision(record, key, decision, PAYMENT_INBOX, PAYMENT_LOG)
    for event in decision.events:
        body = event.WhichOneof("body")
        inner: Any = getattr(event, body) if body else None
        if inner is not None and "call" in inner.DESCRIPTOR.fields_by_name:
            call = inner.call
            step.keys.append((key, call.order, _operation(call.operation), call.attempt))
    return step


def _operation(operation: Operation.ValueType) -> str:
    try:
        return Operation.Name(operation).removeprefix("OPERATION_").lower()
    except ValueError:
        return str(int(operation))


_READERS: dict[str, Callable[[LogRecord, str, bytes], Step | None]] = {
    ORDERS.name: _fact,
    GROUP_INBOX.name: _group_input,
    GROUP_LOG.name: _group_decision,
    PAYMENT_INBOX.name: _payment_input,
    PAYMENT_LOG.name: _payment_decision,
}
