"""OTLP: a receiver gets one trace of at least 12 spans over three services, and an exporter survives its absence."""

from __future__ import annotations

import pytest

from ops.trace import attributes, otlp
from ops.trace.otlp import OtlpExporter, request_of
from ops.trace.span import Kind, Link, Span
from ops.trace.spans import SpanBuilder
from tests.unit.ops.trace.conftest import CALLER, Recorded
from tests.unit.ops.trace.otlp_receiver import receiver
from tests.unit.ops.trace.test_spans import spans_of


def span(number: int, **changes: object) -> Span:
    fields: dict[str, object] = {
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": f"{number:016x}",
        "parent_id": "",
        "name": "step",
        "service": "orders",
        "kind": Kind.INTERNAL,
        "start_ms": 1_700_000_000_000,
        "end_ms": 1_700_000_000_005,
        "sampled": True,
    }
    return Span(**fields | changes)  # type: ignore[arg-type] # fields by name


async def test_a_receiver_gets_the_trace_of_a_group_from_place_order_to_capture(recorded: Recorded) -> None:
    builder = SpanBuilder(sampled_only=True)
    async with receiver() as collector, OtlpExporter(collector.target) as exporter:
        for one in recorded.records:
            assert await exporter.export(builder.take(one.topic, one))
        assert await exporter.export(builder.flush())
    mine = [(service, one) for service, one in collector.spans if one.trace_id.hex() == CALLER.trace_id]
    assert len(mine) >= 12
    assert {service for service, _ in mine} == {"groupbuy-orders", "groupbuy-groups", "groupbuy-payments"}
    ids = {one.span_id for _, one in mine}
    roots = [one for _, one in mine if one.parent_span_id not in ids]
    assert [(one.name, one.parent_span_id.hex()) for one in roots] == [("PlaceOrder", CALLER.span_id)]
    assert any(one.name == "provider capture" for _, one in mine)
    assert exporter.sent == len(collector.spans) == len(spans_of(recorded.records))


def test_a_span_keeps_its_ids_times_kind_attributes_links_and_error() -> None:
    made = span(
        7,
        parent_id="b7ad6b7169203331",
        kind=Kind.CLIENT,
        attributes={attributes.VERSION: 3, attributes.ORDER: "o"},
        links=(Link("1af7651916cd43dd8448eb211c80319c", "c7ad6b7169203331"),),
        error="no answer",
    )
    (resource,) = request_of([made], "1.0").resource_spans
    (scope,) = resource.scope_spans
    (sent,) = scope.spans
    assert (sent.trace_id.hex(), sent.span_id.hex(), sent.parent_span_id.hex()) == (
        made.trace_id,
        made.span_id,
        made.parent_id,
    )
    assert (sent.start_time_unix_nano, sent.end_time_unix_nano) == (
        1_700_000_000_000_000_000,
        1_700_000_000_005_000_000,
    )
    assert sent.kind == sent.SPAN_KIND_CLIENT
    assert {one.key: one.value.int_value or one.value.string_value for one in sent.attributes} == made.attributes
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in sent.links] == [
        ("1af7651916cd43dd8448eb211c80319c", "c7ad6b7169203331")
    ]
    assert (sent.status.code, sent.status.message, sent.flags) == (sent.status.STATUS_CODE_ERROR, "no answer", 1)
    assert scope.scope.version == "1.0"


async def test_spans_wait_for_a_collector_that_is_away_and_the_oldest_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "MAX_QUEUED", 5)
    monkeypatch.setattr(otlp, "BATCH_SPANS", 2)
    async with receiver() as collector:
        target = collector.target
    async with OtlpExporter(target) as exporter:
        assert not await exporter.export(span(number) for number in range(1, 8))
        assert (exporter.queued, exporter.dropped, exporter.sent) == (5, 2, 0)
        assert exporter.error.startswith(("UNAVAILABLE", "DEADLINE_EXCEEDED"))
    async with receiver() as collector, OtlpExporter(collector.target) as exporter:
        assert await exporter.export(span(number) for number in range(1, 6))
        assert await exporter.export(())
        assert [one.span_id.hex() for _, one in collector.spans] == [f"{number:016x}" for number in range(1, 6)]
        assert (collector.requests, exporter.sent, exporter.queued, exporter.error) == (3, 5, 0, "")
