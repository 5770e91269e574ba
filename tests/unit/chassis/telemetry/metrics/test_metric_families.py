"""Samples of the catalogue's metrics, their text, and the meters behind them."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from groupbuy.errors.v1 import errors_pb2

from chassis.rpc.call_meter import CallMeters
from chassis.rpc.errors import ApiError
from chassis.telemetry.metrics.exposition import MetricsCollector
from chassis.telemetry.metrics.metric import Kind, Metric
from chassis.telemetry.metrics.metric_families import family, histogram_family
from chassis.telemetry.metrics.metrics_process import GarbageCollectorMeter, certificate_metrics
from eventlog.runtime.counters import Histogram
from services.payments.providers.meter import NotificationMeter

COUNT = Metric("groupbuy_things_total", Kind.COUNTER, "things", ("kind",), "Things.")
TIME = Metric("groupbuy_time_seconds", Kind.HISTOGRAM, "seconds", (), "Time.", buckets=(0.1, 1.0))


def test_a_histogram_is_cumulative_with_its_count_and_sum() -> None:
    measured = Histogram(TIME.buckets)
    for seconds in (0.05, 0.1, 0.5, 7.0):
        measured.observe(seconds)
    text = MetricsCollector([lambda: [histogram_family(TIME, {(): measured})]]).text().decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'groupbuy_time_seconds_bucket{le="0.1"} 2.0',
        'groupbuy_time_seconds_bucket{le="1.0"} 3.0',
        'groupbuy_time_seconds_bucket{le="+Inf"} 4.0',
        "groupbuy_time_seconds_count 4.0",
        "groupbuy_time_seconds_sum 7.65",
    ]


def test_a_label_value_that_is_gone_leaves_no_line() -> None:
    values: dict[tuple[str, ...], float] = {("a",): 1, ("b",): 2}
    collector = MetricsCollector([lambda: [family(COUNT, values)]])
    assert 'groupbuy_things_total{kind="a"} 1.0' in collector.text().decode()
    del values["a",]
    text = collector.text().decode()
    assert '"a"' not in text
    assert '{kind="b"} 2.0' in text


def test_labels_have_to_be_those_of_the_metric() -> None:
    with pytest.raises(ValueError, match="groupbuy_things_total has the labels"):
        family(COUNT, {("a", "b"): 1})
    with pytest.raises(TypeError, match="is a histogram"):
        family(TIME, 1.0)


def test_pauses_of_the_garbage_collector_are_counted_by_generation() -> None:
    meter = GarbageCollectorMeter()
    meter.start()
    gc.collect(0)
    gc.collect(2)
    meter.stop()
    counts = [one.count for one in meter.pauses]
    gc.collect(2)
    assert counts[0] >= 1
    assert counts[2] >= 1
    assert [one.count for one in meter.pauses] == counts, "it was stopped"


def test_the_end_of_the_certificate_in_use_is_shown() -> None:
    ends = datetime(2031, 5, 6, tzinfo=UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "orders")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, ends - timedelta(days=9), ends)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    (found,) = certificate_metrics(lambda: certificate)()
    assert found.samples[0].value == ends.timestamp()


class Context:
    def __init__(self, code: grpc.StatusCode | None) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode | None:
        return self._code


def test_a_call_is_counted_by_its_status_and_one_without_was_cancelled() -> None:
    meter = CallMeters().method("/s/M", request_streaming=False, response_streaming=True)
    assert meter.grpc_type == "server_stream"
    for context, ok in ((Context(None), True), (Context(grpc.StatusCode.NOT_FOUND), False), (Context(None), False)):
        meter.end(meter.begin(), context, ok=ok)
    assert meter.started == 3
    assert meter.codes == {"OK": 1, "NOT_FOUND": 1, "CANCELLED": 1}
    assert meter.seconds.count == 3


def test_only_refusals_for_want_of_capacity_are_counted_by_reason() -> None:
    meters = CallMeters()
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    errors: list[Any] = [
        ApiError(exhausted, errors_pb2.ERROR_REASON_RATE_LIMITED, "later"),
        ApiError(exhausted, errors_pb2.ERROR_REASON_OVERLOADED, "later"),
        ApiError(exhausted, errors_pb2.ERROR_REASON_OVERLOADED, "later"),
        ApiError(grpc.StatusCode.NOT_FOUND, errors_pb2.ERROR_REASON_ORDER_NOT_FOUND, "no"),
        ValueError("a defect"),
    ]
    for error in errors:
        meters.count_error(error)
    assert meters.refused == {"ERROR_REASON_RATE_LIMITED": 1, "ERROR_REASON_OVERLOADED": 2}


def test_a_notification_in_an_invented_name_adds_no_label_value() -> None:
    meter = NotificationMeter(["stripe"])
    meter.count("stripe", "appended")
    meter.count("x" * 30, "refused")
    meter.count("y" * 30, "refused")
    (found,) = meter.metrics()
    values = {(one.labels["provider"], one.labels["result"]): one.value for one in found.samples}
    assert values["stripe", "appended"] == 1
    assert values["unknown", "refused"] == 2
    assert {provider for provider, _ in values} == {"stripe", "unknown"}
