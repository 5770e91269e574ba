"""Metrics and probes of the services on a real stack."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from chassis.telemetry.metrics.metric import Source
from chassis.telemetry.metrics.metric_catalogue import BY_NAME, CATALOGUE
from devstack.product import SERVICES
from devstack.supervision.waiting import wait_for
from tests.integration.shop import Shop

if TYPE_CHECKING:
    from groupbuy_testing.running import RunningStack

MOST_LINES = 500
#: Emitted only with certificates, or after a restart.
CONDITIONAL = {"groupbuy_certificate_expires_timestamp_seconds", "groupbuy_last_exit_code"}
ORDERS = {"grpc_type": "unary", "grpc_service": "groupbuy.orders.v1.OrderService", "grpc_method": "PlaceOrder"}
INBOX, DECIDER, EFFECTS = "groups.inbox.v1", "groupbuy.groups.decider", "groupbuy.payments.effects"


class Sample(NamedTuple):
    """One line of a scrape."""

    name: str
    labels: frozenset[tuple[str, str]]


class Scrape:
    """The metrics of one service at one time."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.names: set[str] = set()
        self.values: dict[Sample, float] = {}
        for family in text_string_to_metric_families(text):
            self.names.add(f"{family.name}_total" if family.type == "counter" else family.name)
            for one in family.samples:
                self.values[Sample(one.name, frozenset(one.labels.items()))] = one.value

    def value(self, name: str, **labels: str) -> float:
        """The value of a line; 0 if there is none."""
        return self.values.get(Sample(name, frozenset(labels.items())), 0.0)

    def total(self, name: str, **labels: str) -> float:
        """The sum of the lines that have these labels."""
        return sum(value for one, value in self.values.items() if one.name == name and labels.items() <= one.labels)


def get(stack: RunningStack, service: str, path: str) -> tuple[int, str]:
    """Status and body; status 0 if nothing answers."""
    try:
        with urllib.request.urlopen(f"http://{stack.endpoints[f'{service}_metrics']}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def scrape(stack: RunningStack, service: str) -> Scrape:
    status, text = get(stack, service, "/metrics")
    assert status == 200, text
    return Scrape(text)


def ready(stack: RunningStack, service: str) -> tuple[int, Any]:
    status, body = get(stack, service, "/ready")
    return status, json.loads(body) if body else None


def all_ready(stack: RunningStack, services: Iterable[str] = SERVICES) -> bool:
    return all(ready(stack, one)[0] == 200 for one in services)


def test_a_scrape_counts_the_calls_decisions_and_provider_calls_of_a_settled_group(shop: Shop) -> None:
    stack = shop.stack
    before = {name: scrape(stack, name) for name in SERVICES}
    orders = shop.full_group(shop.campaign(capacity=3, tiers=((2, 8_900), (3, 7_900))), 3)
    shop.wait_all(orders, "SETTLED")
    assert wait_for(lambda: scrape(stack, "payments").total("groupbuy_processor_lag_records") == 0, timeout_s=20)
    after = {name: scrape(stack, name) for name in SERVICES}

    def gained(service: str, name: str, **labels: str) -> float:
        return after[service].total(name, **labels) - before[service].total(name, **labels)

    assert gained("orders", "grpc_server_started_total", **ORDERS) == 3
    assert gained("orders", "grpc_server_handled_total", **ORDERS, grpc_code="OK") == 3
    assert gained("orders", "grpc_server_handling_seconds_count", **ORDERS) == 3
    for operation in ("authorise", "capture"):
        calls = {"provider": "simulated", "operation": operation}
        assert gained("payments", "groupbuy_provider_calls_total", **calls, result="done") == 3
        assert gained("payments", "groupbuy_provider_operation_seconds_total", **calls) > 0
    assert gained("payments", "groupbuy_provider_call_seconds_count") == gained(
        "payments", "groupbuy_provider_calls_total"
    )
    inputs = gained("groups", "groupbuy_records_handled_total", consumer_group=DECIDER, topic=INBOX)
    assert inputs == gained("groups", "groupbuy_decisions_total", consumer_group=DECIDER)
    assert gained("groups", "groupbuy_decisions_total", consumer_group=DECIDER, outcome="decided") >= 4
    assert gained("groups", "groupbuy_decisions_total", outcome="faulted") == 0
    assert 0 < gained("groups", "groupbuy_decide_seconds_total") < 5
    assert gained("orders", "groupbuy_publish_seconds_count", topic="orders.order.v1") >= 1


def test_each_service_serves_what_the_catalogue_promises_in_fewer_than_500_lines(groupbuy_stack: RunningStack) -> None:
    assert wait_for(lambda: all_ready(groupbuy_stack), timeout_s=40)
    seen: set[str] = set()
    for service in SERVICES:
        found = scrape(groupbuy_stack, service)
        assert len(found.lines) < MOST_LINES
        assert found.names <= BY_NAME.keys()
        seen |= found.names
        assert found.value("groupbuy_serving") == 1
        assert found.total("groupbuy_check_passed") == 4
        assert found.total("groupbuy_partitions_quarantined") == 0
        assert found.total("groupbuy_recovering_seconds") == 0
        assert found.total("groupbuy_recovery_seconds_count") >= 1
        groups = {dict(one.labels)["consumer_group"] for one in found.values if one.name == "groupbuy_partitions_owned"}
        for group in groups:
            owned = found.value("groupbuy_partitions_owned", consumer_group=group)
            assert owned == groupbuy_stack.stack.partitions, f"{group} owns {owned}"
            assert 0 < found.value("groupbuy_lease_remaining_seconds", consumer_group=group) <= 10
    promised = {one.name for one in CATALOGUE if one.source in {Source.SERVICES, Source.PAYMENTS}}
    assert promised - seen <= CONDITIONAL


def test_a_restart_shows_with_the_exit_code_before_it(groupbuy_stack: RunningStack) -> None:
    assert wait_for(lambda: all_ready(groupbuy_stack), timeout_s=40)
    starts = scrape(groupbuy_stack, "groups").value("groupbuy_starts_total")
    groupbuy_stack.stack.kill("groups")
    assert wait_for(lambda: get(groupbuy_stack, "groups", "/live")[0] == 0, timeout_s=10)
    assert wait_for(lambda: get(groupbuy_stack, "groups", "/startup")[0] == 200, timeout_s=60)
    found = scrape(groupbuy_stack, "groups")
    assert found.value("groupbuy_starts_total") == starts + 1
    assert found.value("groupbuy_last_exit_code") == -1
    assert wait_for(lambda: all_ready(groupbuy_stack), timeout_s=40)


def test_readiness_follows_a_killed_broker(groupbuy_stack: RunningStack) -> None:
    assert wait_for(lambda: all_ready(groupbuy_stack), timeout_s=40)
    groupbuy_stack.stack.broker.kill()
    try:
        assert wait_for(lambda: not any(ready(groupbuy_stack, one)[0] != 503 for one in SERVICES), timeout_s=30)
        for service in SERVICES:
            status, body = ready(groupbuy_stack, service)
            assert (status, body["ready"]) == (503, False)
            assert "the broker does not answer" in body["why"]
            assert get(groupbuy_stack, service, "/live")[0] == 200
            assert get(groupbuy_stack, service, "/startup")[0] == 200
    finally:
        groupbuy_stack.stack.broker.restart()
    assert wait_for(lambda: all_ready(groupbuy_stack), timeout_s=60)
