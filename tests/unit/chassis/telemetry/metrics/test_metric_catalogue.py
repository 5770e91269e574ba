"""The catalogue of metrics against the code: what the services emit, and what they can emit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from groupbuy.payments.v1.decisions_pb2 import Operation, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from prometheus_client.parser import text_string_to_metric_families

from chassis.identity.authorizer import create_authorizer
from chassis.lifecycle.observation import Observation
from chassis.lifecycle.runner import ServiceSpec
from chassis.lifecycle.watchdog import Watchdog
from chassis.rpc.server import Server
from chassis.telemetry.metrics.metric import LABELS, Kind, Source
from chassis.telemetry.metrics.metric_catalogue import BY_NAME, CATALOGUE
from chassis.telemetry.metrics.metrics_of_services import CERTIFICATE_EXPIRES, LAST_EXIT_CODE
from eventlog.runtime import private_files
from eventlog.runtime.counters import PUBLISH_S, Histogram
from services.groups import app as groups
from services.groups.settings import GroupsSettings
from services.orders import app as orders
from services.orders.settings import OrdersSettings
from services.payments import app as payments
from services.payments.providers.meter import RESULTS, ProviderMeter
from services.payments.settings import PaymentsSettings
from shared_kernel import topics

#: Most lines of /metrics of one process: a scrape of 500 takes about 3 ms.
MOST_LINES = 500
SERVICES: dict[str, tuple[Any, Any]] = {
    "orders": (orders.build, OrdersSettings),
    "groups": (groups.build, GroupsSettings),
    "payments": (payments.build, PaymentsSettings),
}
PROVIDERS = ("simulated", "stripe", "wechat")
#: Codes with which a method may have ended in a bad week.
CODES = ("OK", "INVALID_ARGUMENT", "UNAVAILABLE", "DEADLINE_EXCEEDED")


@pytest.fixture(params=SERVICES)
async def text(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a wired service serves once each method, provider and topic was used, and the process restarted."""
    return await served(request.param, tmp_path, monkeypatch)


async def served(name: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    build, kind = SERVICES[name]
    private_files.directory(directory)
    settings = kind(insecure=True, state_dir=directory, listen="127.0.0.1:0")
    meters: list[ProviderMeter] = []
    made = ProviderMeter.__init__

    def keep(self: ProviderMeter, *given: Any) -> None:
        made(self, *given)
        meters.append(self)

    monkeypatch.setattr(ProviderMeter, "__init__", keep)
    spec: ServiceSpec = build(settings)
    server = Server(
        spec.servicers, max_calls=1, max_streams=1, authorizer=create_authorizer(settings, name, None), files=None
    )
    for _ in range(2):
        observation = Observation(settings, Watchdog(1.0))
        observation.count_run()
        collector = observation.collector(server, None, spec.collectors)
        use_methods(server)
        use_topics(spec, monkeypatch)
        for meter in meters:
            await use_providers(meter)
        found = collector.text().decode()
        observation.stop(0)
    return found


def use_methods(server: Server) -> None:
    for method, meter in server.pipeline.meters.by_method.items():
        if "/grpc.channelz" in method or "/grpc.reflection" in method:
            continue  # for people, not for services
        meter.begin()
        meter.codes = dict.fromkeys(CODES if method.split("/")[1] in server.measured else CODES[:2], 1)


def use_topics(spec: ServiceSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    own = [topic.name for topic in spec.topics if topic.writer == spec.servicers[0].full_name.split(".")[1]]
    published = {topic: Histogram(PUBLISH_S) for topic in own}
    monkeypatch.setattr(type(spec.publisher), "publish_s", published)


async def use_providers(meter: ProviderMeter) -> None:
    async def outcome(result: str) -> ProviderOutcome:
        made = ProviderOutcome()
        getattr(made, result).SetInParent()
        return made

    # A process that moves real money refuses the simulated provider.
    methods = ("stripe_1", "wechat_1")
    for operation in Operation.values():
        for method in methods if operation else ():
            for result in ("authorised", "declined", "retry_later"):
                call = ProviderCall(payment_method=method, operation=operation)
                await meter.measure(call, outcome(result))


def names_of(text: str) -> set[str]:
    """The names of all metrics in a text of the exposition format, as the catalogue has them."""
    found = set()
    for family in text_string_to_metric_families(text):
        found.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return found


async def test_a_service_emits_only_metrics_of_the_catalogue_with_their_labels_and_types(text: str) -> None:
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        metric = BY_NAME[name]
        assert family.type == metric.kind.value, name
        assert family.documentation == metric.meaning or name.startswith("process_"), name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), name
        if metric.kind is Kind.HISTOGRAM and family.samples:
            bounds = {float(one.labels["le"]) for one in family.samples if "le" in one.labels}
            assert bounds == {*metric.buckets, float("inf")}, name


async def test_the_services_emit_every_metric_that_the_catalogue_gives_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted: set[str] = set()
    for name in SERVICES:
        emitted |= names_of(await served(name, tmp_path / name, monkeypatch))
    wanted = {one.name for one in CATALOGUE if one.source in {Source.SERVICES, Source.PAYMENTS}}
    assert wanted - emitted == {CERTIFICATE_EXPIRES.name}, "it needs certificates: test_metrics_process.py"
    assert LAST_EXIT_CODE.name in emitted


async def test_payments_metrics_come_from_payments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {one.name for one in CATALOGUE if one.source is Source.PAYMENTS}
    for name in SERVICES:
        emitted = names_of(await served(name, tmp_path / name, monkeypatch))
        assert emitted & own == (own if name == "payments" else set())


async def test_a_process_serves_fewer_than_500_lines_when_everything_was_used(text: str) -> None:
    assert len(text.splitlines()) < MOST_LINES


async def test_label_values_belong_to_closed_sets(text: str) -> None:
    closed: dict[str, Callable[[str], bool]] = {
        "consumer_group": lambda value: value in {reader for topic in topics.ALL for reader in topic.readers},
        "topic": lambda value: value in {topic.name for topic in topics.ALL},
        "provider": lambda value: value in {*PROVIDERS, "unknown"},
        "operation": lambda value: value in {"authorise", "sale", "capture", "void", "refund", "check"},
        "outcome": lambda value: value in {"decided", "repeat", "nothing", "faulted"},
        "kind": lambda value: value in {"unary", "stream", "operation"},
    }
    seen: set[str] = set()
    for label, value in labels_of(text):
        seen.add(label)
        if label in closed:
            assert closed[label](value), (label, value)
    assert not seen & {"partition", "customer", "order", "group", "campaign"}


def labels_of(text: str) -> Iterator[tuple[str, str]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield from sample.labels.items()


def test_names_units_and_labels_follow_the_conventions_of_prometheus() -> None:
    for metric in CATALOGUE:
        assert re.fullmatch(r"(groupbuy|grpc_server|process)_[a-z0-9_]+", metric.name)
        assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total"), metric.name
        assert metric.meaning.endswith("."), metric.name
        assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets)), metric.name
        assert set(metric.labels) <= LABELS.keys(), metric.name
        if metric.unit == "seconds":
            assert "seconds" in metric.name, metric.name
    assert {label for metric in CATALOGUE for label in metric.labels} == LABELS.keys()


def test_every_outcome_of_a_provider_has_a_result() -> None:
    assert {field.name for field in ProviderOutcome.DESCRIPTOR.oneofs_by_name["result"].fields} == RESULTS.keys()


async def test_a_provider_call_is_counted_by_its_result_and_while_it_is_in_flight() -> None:
    meter = ProviderMeter(PROVIDERS, lambda method: "stripe")
    call = ProviderCall(payment_method="stripe_1", operation=Operation.OPERATION_CAPTURE)
    answered: asyncio.Future[ProviderOutcome] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(meter.measure(call, answered))
    await asyncio.sleep(0)
    assert sample(meter, "groupbuy_provider_calls_in_flight", provider="stripe") == 1
    made = ProviderOutcome()
    made.captured.SetInParent()
    answered.set_result(made)
    assert await running is made
    labels = {"provider": "stripe", "operation": "capture"}
    assert sample(meter, "groupbuy_provider_calls_total", **labels, result="done") == 1
    assert sample(meter, "groupbuy_provider_call_seconds_count", provider="stripe") == 1
    assert sample(meter, "groupbuy_provider_calls_in_flight", provider="stripe") == 0

    async def broken() -> ProviderOutcome:
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        await meter.measure(call, broken())
    assert sample(meter, "groupbuy_provider_calls_total", **labels, result="raised") == 1


def sample(meter: ProviderMeter, name: str, **labels: str) -> float | None:
    for family in meter.metrics(dict)():
        for one in family.samples:
            if one.name == name and one.labels == labels:
                return float(one.value)
    return None
