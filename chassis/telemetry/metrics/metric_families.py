"""Builds Prometheus samples from entries of the catalogue. Services and `groupbuy-ops watch` share it.

A metric is built at each scrape from plain values, so a label value that is gone leaves no stale series.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from chassis.telemetry.metrics.metric import Kind, Metric
from eventlog.runtime.counters import Histogram

#: Label values, in the order of the metric's labels.
Labels = tuple[str, ...]


def family(metric: Metric, values: Mapping[Labels, float] | float) -> Family:
    """The samples of a counter or gauge; a single value for a metric without labels."""
    if metric.kind is Kind.HISTOGRAM:
        raise TypeError(f"{metric.name} is a histogram")
    made: CounterMetricFamily | GaugeMetricFamily
    if metric.kind is Kind.COUNTER:
        made = CounterMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    else:
        made = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values.items() if isinstance(values, Mapping) else [((), values)]:
        made.add_metric(_checked(metric, labels), value)
    return made


def histogram_family(metric: Metric, values: Mapping[Labels, Histogram]) -> Family:
    """The samples of a histogram. Its bounds are those of the metric."""
    made = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    bounds = [*(str(float(bound)) for bound in metric.buckets), "+Inf"]
    for labels, found in values.items():
        totals = _running_totals(found.counts)
        made.add_metric(_checked(metric, labels), list(zip(bounds, totals, strict=True)), found.total)
    return made


def _running_totals(counts: Iterable[int]) -> list[float]:
    totals: list[float] = []
    total = 0
    for count in counts:
        total += count
        totals.append(total)
    return totals


def _checked(metric: Metric, labels: Labels) -> Labels:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}, not {labels}")
    return labels
