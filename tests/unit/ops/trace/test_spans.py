"""Spans of a recorded log: one connected trace from PlaceOrder to capture, whatever the order of the topics."""

from __future__ import annotations

from collections import Counter
from random import Random
from uuid import UUID

import pytest
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from eventlog.records.envelope import header
from eventlog.records.traceparent import parse, span_id
from ops.trace import attributes
from ops.trace.span import Kind, Span
from ops.trace.spans import SpanBuilder
from services.payments.domain.output.provider_calls import calls_of
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG, PAYMENT_INBOX, PAYMENT_LOG
from tests.unit.ops.trace.conftest import CALLER, Recorded, record
from tests.unit.ops.trace.in_memory_system import HOUR_MS, InMemorySystem, LogRecord


def spans_of(records: list[LogRecord], builder: SpanBuilder | None = None) -> list[Span]:
    made = builder or SpanBuilder()
    return [span for one in records for span in made.take(one.topic, one)] + made.flush()


def by_id(spans: list[Span]) -> dict[str, Span]:
    assert len({span.span_id for span in spans}) == len(spans)
    return {span.span_id: span for span in spans}


async def test_the_completing_order_has_one_trace_from_place_order_to_capture_over_three_services(
    recorded: Recorded,
) -> None:
    spans = [span for span in spans_of(recorded.records) if span.trace_id == CALLER.trace_id]
    assert len(spans) >= 12
    assert {span.service for span in spans} == {"orders", "groups", "payments"}
    known = by_id(spans)
    (root,) = [span for span in spans if span.parent_id not in known]
    # The span of the shopper's app is the parent of ours.
    assert (root.name, root.parent_id) == ("PlaceOrder", CALLER.span_id)
    names = [span.name for span in spans]
    assert names.count("provider authorise") == 1
    # The order completes the group, so its trace has the captures of both orders.
    assert names.count("provider capture") == 2
    assert any("completed" in name for name in names)
    assert any(name.endswith("settled") for name in names)
    for span in spans:
        assert span.start_ms <= span.end_ms
        if span is not root:
            assert known[span.parent_id].start_ms <= span.start_ms


async def test_a_trace_that_begins_in_orders_has_the_id_of_the_order_and_a_root_without_a_parent(
    recorded: Recorded,
) -> None:
    trace_id = UUID(recorded.leader.order).hex
    spans = [span for span in spans_of(recorded.records) if span.trace_id == trace_id]
    roots = [span for span in spans if not span.parent_id]
    assert [(span.name, span.span_id) for span in roots] == [
        ("PlaceOrder", span_id("/groupbuy/orders", f"{recorded.leader.order}:placed"))
    ]
    assert all(span.sampled for span in spans)
    assert Counter(span.name for span in spans)["provider authorise"] == 1


async def test_every_record_names_its_own_span_and_trace_in_its_traceparent(recorded: Recorded) -> None:
    """So a reader of the log with any tracing library continues the same trace."""
    known = by_id(spans_of(recorded.records))
    for one in recorded.records:
        trace = parse(header(one.headers, "traceparent") or "")
        assert trace is not None, one
        if one.topic in {GROUP_LOG.name, PAYMENT_LOG.name}:
            span = known[trace.span_id]
            assert (span.trace_id, span.attributes[attributes.OFFSET]) == (trace.trace_id, one.offset)


async def test_two_owners_write_the_same_bytes(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    other = InMemorySystem(monkeypatch, share=0.0)
    other.now_ms += HOUR_MS
    await other.decide_again(recorded.records)
    for topic in (GROUP_LOG.name, PAYMENT_LOG.name):
        first = [(one.key, one.value, one.headers) for one in recorded.records if one.topic == topic]
        assert [(one.key, one.value, one.headers) for one in other.logs[topic]] == first
        assert len(first) >= 6


async def test_the_values_of_the_log_are_the_same_without_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = await record(InMemorySystem(monkeypatch, share=1.0))
    untraced = await record(InMemorySystem(monkeypatch, share=0.0))
    assert [one[:6] for one in traced.records] == [one[:6] for one in untraced.records]


@pytest.mark.parametrize("seed", range(5))
async def test_the_spans_do_not_depend_on_the_order_in_which_topics_are_read(recorded: Recorded, seed: int) -> None:
    topics: dict[str, list[LogRecord]] = {}
    for one in recorded.records:
        topics.setdefault(one.topic, []).append(one)
    chance, mixed = Random(seed), []
    while topics:
        topic = chance.choice(sorted(topics))
        mixed.append(topics[topic].pop(0))
        if not topics[topic]:
            del topics[topic]
    assert by_id(spans_of(mixed)) == by_id(spans_of(recorded.records))


async def test_a_record_that_two_owners_wrote_has_one_span(recorded: Recorded) -> None:
    twice: list[LogRecord] = []
    for one in recorded.records:
        repeat = one._replace(offset=one.offset + 10_000, timestamp=one.timestamp + 1)
        twice += [one, repeat] if one.topic in {GROUP_LOG.name, PAYMENT_LOG.name} else [one]
    assert by_id(spans_of(twice)) == by_id(spans_of(recorded.records))


async def test_a_span_lasts_from_the_record_of_its_cause_to_its_own(recorded: Recorded) -> None:
    known = by_id(spans_of(recorded.records))
    inbox = {one.offset: one for one in recorded.records if one.topic == PAYMENT_INBOX.name}
    decided = [one for one in recorded.records if one.topic == PAYMENT_LOG.name]
    assert decided
    for one in decided:
        decision = PaymentDecision.FromString(one.value)
        span = known[span_id("/payments", f"{recorded.leader.group}:{decision.version}")]
        assert (span.start_ms, span.end_ms) == (inbox[decision.cause].timestamp, one.timestamp)
        assert known[span.parent_id].service == "payments"


async def test_the_providers_call_has_its_own_times_and_its_number_of_requests(recorded: Recorded) -> None:
    calls = [span for span in spans_of(recorded.records) if span.kind is Kind.CLIENT]
    assert Counter(span.name for span in calls) == {"provider authorise": 2, "provider capture": 2}
    for span in calls:
        captured = span.name == "provider capture"
        # A capture whose first request has no answer takes a look-up and a second request.
        assert span.attributes[attributes.REQUESTS] == (3 if captured else 1)
        assert span.duration_ms >= (80 if captured else 40)
        assert span.attributes[attributes.RESULT] == ("captured" if captured else "authorised")


async def test_a_result_names_the_decision_that_requested_its_call(recorded: Recorded) -> None:
    results = [one for one in recorded.records if header(one.headers, "groupbuy-call")]
    assert len(results) == 4
    for one in results:
        group, _, version = (header(one.headers, "ce_causationid") or "").rpartition(":")
        (decision,) = [
            PaymentDecision.FromString(other.value)
            for other in recorded.records
            if other.topic == PAYMENT_LOG.name and PaymentDecision.FromString(other.value).version == int(version)
        ]
        order = PaymentInput.FromString(one.value).outcome.order
        assert (group, order in {call.order for call in calls_of(decision)}) == (recorded.leader.group, True)


async def test_without_traceparents_the_causes_connect_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    system = InMemorySystem(monkeypatch, share=0.0)
    untraced = await record(system)
    records = [one._replace(headers=()) for one in untraced.records]
    spans = spans_of(records)
    known = by_id(spans)
    roots = [span for span in spans if span.parent_id not in known]
    assert {(span.name, span.trace_id) for span in roots} == {
        ("PlaceOrder", UUID(untraced.leader.order).hex),
        ("PlaceOrder", UUID(untraced.member.order).hex),
    }
    assert not any(span.sampled for span in spans)
    assert Counter(span.name for span in spans) == Counter(span.name for span in spans_of(untraced.records))


async def test_a_decision_that_a_timer_caused_continues_the_decision_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = InMemorySystem(monkeypatch)
    leader = system.place(customer="ann", request_id="5b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11")
    await system.run()
    due_ms = system.now_ms + HOUR_MS
    system.tick(GROUP_INBOX, leader.group, due_ms)
    await system.run()
    spans = spans_of(system.records(), SpanBuilder(sampled_only=True))
    known = by_id(spans)
    (expired,) = [span for span in spans if "expired" in str(span.attributes.get(attributes.EVENTS))]
    assert expired.trace_id == UUID(leader.order).hex
    assert expired.attributes[attributes.TRIGGER] == "timer"
    assert known[expired.parent_id].attributes[attributes.VERSION] == int(expired.attributes[attributes.VERSION]) - 1
    # The wait for the timer belongs to no span.
    assert expired.duration_ms < HOUR_MS
    # What follows from it is in the same trace, up to the void at the provider.
    assert any(span.name == "provider void" and span.trace_id == expired.trace_id for span in spans)


async def test_only_sampled_traces_are_built_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    played = await record(InMemorySystem(monkeypatch, share=0.0))
    spans = spans_of(played.records, SpanBuilder(sampled_only=True))
    # The member's app sampled its trace; the leader's trace is not sampled.
    assert {span.trace_id for span in spans} == {CALLER.trace_id}
    everything = spans_of(played.records)
    assert by_id(spans) == by_id([span for span in everything if span.trace_id == CALLER.trace_id])


async def test_a_cause_that_the_log_no_longer_has_leaves_a_root(recorded: Recorded) -> None:
    """Inboxes are deleted after 90 days, decisions are kept."""
    decisions = [one for one in recorded.records if one.topic in {GROUP_LOG.name, PAYMENT_LOG.name}]
    spans = spans_of(decisions)
    assert len(spans) == len(decisions)
    assert {span.attributes[attributes.CAUSE] for span in spans} == {"missing"}
    assert {span.trace_id for span in spans} == {CALLER.trace_id, UUID(recorded.leader.order).hex}


async def test_memory_is_bounded(recorded: Recorded) -> None:
    builder = SpanBuilder(max_remembered=5, max_waiting=3)
    spans = spans_of(recorded.records, builder)
    assert len(builder._known) <= 5
    assert not builder._waiting
    assert len(spans) >= len(recorded.records) - 5


def test_a_record_that_can_not_be_decoded_has_no_span() -> None:
    builder = SpanBuilder()
    for spec in (GROUP_INBOX, GROUP_LOG, PAYMENT_INBOX, PAYMENT_LOG):
        assert builder.take(spec.name, LogRecord(spec.name, 0, 0, 1, b"k", b"\xff\xff", ())) == []
        assert builder.take(spec.name, LogRecord(spec.name, 0, 1, 1, b"\xff", b"", ())) == []
    assert builder.take("another.topic", LogRecord("another.topic", 0, 0, 1, b"k", b"", ())) == []
    assert builder.flush() == []
