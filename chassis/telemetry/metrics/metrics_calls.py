"""Metrics of the gRPC server: rate, errors and duration of each method, and what load shedding does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric as Family

from chassis.rpc.call_meter import MethodMeter
from chassis.rpc.request_pipeline import RequestPipeline
from chassis.telemetry.metrics import metrics_of_services as m
from chassis.telemetry.metrics.metric_families import Labels, family, histogram_family

_PREFIX = "ERROR_REASON_"
#: Reasons that are counted from zero.
_REFUSALS = ("ERROR_REASON_OVERLOADED", "ERROR_REASON_RATE_LIMITED")


def call_metrics(pipeline: RequestPipeline, measured: frozenset[str]) -> Callable[[], Iterator[Family]]:
    """The collector of a server. `measured` are the full names of its services that other services call.

    Other methods (health, channelz, reflection, those for people) are counted once they are called, and their time is
    not measured.
    """

    def collect() -> Iterator[Family]:
        methods = {
            name: one
            for name, one in pipeline.meters.by_method.items()
            if one.started or name.split("/")[1] in measured
        }
        yield family(m.GRPC_STARTED, {_labels(name, one): one.started for name, one in methods.items()})
        handled: dict[Labels, float] = {
            (*_labels(name, one), code): count
            for name, one in methods.items()
            for code, count in one.codes.copy().items()
        }
        yield family(m.GRPC_HANDLED, handled)
        yield histogram_family(
            m.GRPC_SECONDS,
            {_labels(name, one): one.seconds for name, one in methods.items() if name.split("/")[1] in measured},
        )
        kinds = {"unary": pipeline.unary, "stream": pipeline.streams, "operation": pipeline.operations}
        yield family(m.CALLS_IN_FLIGHT, {(kind,): len(calls) for kind, calls in kinds.items()})
        yield family(m.CALLS_LIMIT, {(kind,): calls.limit for kind, calls in kinds.items()})
        refused = dict.fromkeys(_REFUSALS, 0) | pipeline.meters.refused.copy()
        yield family(m.CALLS_REFUSED, {(one.removeprefix(_PREFIX),): count for one, count in refused.items()})
        yield family(m.QUEUE_WAIT, pipeline.load_shedder.wait_s)

    return collect


def _labels(method: str, meter: MethodMeter) -> Labels:
    _, service, name = method.split("/")
    return meter.grpc_type, service, name
