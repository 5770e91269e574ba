"""Metrics of the processors and the publisher of a process, from the kernel's plain counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import Metric as Family

from chassis.telemetry.metrics import metrics_of_services as m
from chassis.telemetry.metrics.metric import Metric
from chassis.telemetry.metrics.metric_families import Labels, family, histogram_family
from eventlog.processors.base import Processor
from eventlog.processors.decider import Decider
from eventlog.processors.meter import Gauges
from eventlog.producing.publisher import Publisher

_OUTCOMES = ("decided", "faulted", "nothing", "repeat")


def kernel_metrics(processors: Sequence[Processor], publisher: Publisher) -> Callable[[], Iterator[Family]]:
    """The collector of these processors."""

    def collect() -> Iterator[Family]:
        yield from _counts(processors)
        gauges = {processor.group: processor.meter.gauges() for processor in processors}
        yield from _gauges(gauges)
        yield from _standbys(processors, gauges)
        deciders = [processor for processor in processors if isinstance(processor, Decider)]
        if deciders:
            yield from _deciders(deciders)
        yield histogram_family(m.PUBLISH_SECONDS, {(topic,): one for topic, one in publisher.publish_s.items()})

    return collect


def _counts(processors: Sequence[Processor]) -> Iterator[Family]:
    meters = {processor.group: processor.meter for processor in processors}
    # Inputs and dead letters are zero from the start: a counter that appears with its first increment shows no rate.
    yield family(
        m.RECORDS_HANDLED,
        {(one.group, topic): one.meter.handled.get(topic, 0) for one in processors for topic in one.inputs},
    )
    yield family(
        m.DEAD_LETTERS,
        {(one.group, topic): one.dead_letters.get(topic, 0) for one in processors for topic in one.inputs},
    )
    yield family(m.RECORDS_SKIPPED, {(group,): one.skipped for group, one in meters.items()})
    yield family(m.BATCHES, {(group,): one.batches for group, one in meters.items()})
    yield family(m.BATCH_SECONDS, {(group,): one.batch_s for group, one in meters.items()})
    yield histogram_family(m.RECOVERY_SECONDS, {(group,): one.recovery_s for group, one in meters.items()})


def _gauges(gauges: dict[str, Gauges]) -> Iterator[Family]:
    lag: dict[Labels, float] = {
        (group, topic): records for group, one in gauges.items() for topic, records in one.progress.lag_records.items()
    }
    yield family(m.LAG_RECORDS, lag)
    each: dict[Metric, Callable[[Gauges], float]] = {
        m.LAG_SECONDS: lambda one: one.progress.lag_s,
        m.BATCHES_IN_FLIGHT: lambda one: one.progress.batches_in_flight,
        m.PARTITIONS_OWNED: lambda one: one.progress.partitions,
        m.PARTITIONS_QUARANTINED: lambda one: one.quarantined,
        m.RECOVERING_SECONDS: lambda one: one.recovering_s,
        m.LEASE_REMAINING: lambda one: one.lease_s,
    }
    for metric, value in each.items():
        yield family(metric, {(group,): value(one) for group, one in gauges.items()})


def _standbys(processors: Sequence[Processor], gauges: dict[str, Gauges]) -> Iterator[Family]:
    groups = [processor.group for processor in processors if processor.standby is not None]
    yield family(m.STANDBY_PARTITIONS, {(group,): gauges[group].standby_partitions for group in groups})
    yield family(m.STANDBY_LAG, {(group,): gauges[group].standby_lag for group in groups})


def _deciders(deciders: Sequence[Decider[object]]) -> Iterator[Family]:
    decisions: dict[Labels, float] = {}
    for one in deciders:
        counts = one.decide_counts
        values = (counts.decided - counts.faulted, counts.faulted, counts.nothing, counts.repeats)
        decisions |= {(one.group, outcome): value for outcome, value in zip(_OUTCOMES, values, strict=True)}
    yield family(m.DECISIONS, decisions)
    yield family(m.DECIDE_SECONDS, {(one.group,): one.decide_counts.seconds for one in deciders})
    gauges = {(one.group,): one.decider_gauges() for one in deciders}
    yield family(m.CHECKPOINT_AGE, {labels: one.checkpoint_age_s for labels, one in gauges.items()})
    yield family(m.CHECKPOINT_BEHIND, {labels: one.unsaved for labels, one in gauges.items()})
    yield family(m.TIMERS_LATE, {labels: one.timers_late_s for labels, one in gauges.items()})
