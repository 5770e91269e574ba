"""The pods of deploy/k8s start with their settings, are restricted, and drain in time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from chassis.lifecycle.runner import STOP_SLACK_S
from chassis.lifecycle.settings import ServiceSettings, load
from console.settings import ConsoleSettings
from docs.commands_page import commands
from eventlog.broker.security import Cluster
from ops.broker.topics import PARTITIONS
from ops.export.identity_resources import GRPC_PORTS, METRICS_PORT, OPERATORS_PORT, SHARE_PORT, WEBHOOKS_PORT
from ops.security import cluster
from ops.where import broker
from services.groups.settings import GroupsSettings
from services.inventory.settings import InventorySettings
from services.orders.settings import OrdersSettings
from services.payments.settings import PaymentsSettings
from tests.unit.deploy.manifests import K8S, Document, documents, of, one_of, pods, with_all_components

pytestmark = pytest.mark.timeout(300)

SERVICES: Mapping[str, type[ServiceSettings]] = {
    "orders": OrdersSettings,
    "groups": GroupsSettings,
    "payments": PaymentsSettings,
    "inventory": InventorySettings,
}
#: Files that a Secret's volume makes at run time.
MOUNTED = ("/tls/", "/kafka/", "/share-tls/", "/operators/")
#: Seconds in addition to the time that a process takes to stop.
RESERVE_S = 5


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_with_the_settings_of_its_pod(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_all_components() if service == "inventory" else of("base")
    pod = one_of(found, "StatefulSet", service)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert enter(found, container, monkeypatch) == 5
    settings = load(SERVICES[service])
    assert settings.address == f"{service}-1.{service}.groupbuy.svc:{GRPC_PORTS[service]}"
    assert settings.instance == f"{service}-1"
    assert settings.session_seconds == 30
    assert not settings.insecure
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["grpc"] == GRPC_PORTS[service] == int(settings.listen.rpartition(":")[2])
    assert ports["http"] == METRICS_PORT == int(settings.metrics_listen.rpartition(":")[2])
    if isinstance(settings, PaymentsSettings):
        assert ports["webhooks"] == WEBHOOKS_PORT == int(settings.webhook_listen.rpartition(":")[2])
    # SIGKILL comes after preStop, two drains and the watchdog's slack.
    stops_s = container["lifecycle"]["preStop"]["sleep"]["seconds"] + 2 * settings.drain_seconds + STOP_SLACK_S
    assert pod["terminationGracePeriodSeconds"] == stops_s + RESERVE_S
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 2 * settings.warm_seconds


def enter(found: Sequence[Document], container: Document, monkeypatch: pytest.MonkeyPatch) -> int:
    """Sets the environment of a container, as if its files existed. Returns how many files it names."""
    names = {volume["mountPath"] for volume in container["volumeMounts"]}
    for name in [name for name in os.environ if name.startswith("GROUPBUY_")]:
        monkeypatch.delenv(name)
    given = settings_of(found, container)
    files = [value for value in given.values() if value.startswith(MOUNTED)]
    for file in files:
        assert any(file.startswith(f"{name}/") for name in names), file
    # The files exist in the pod only.
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "password")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return len(files)


def test_the_console_starts_with_the_settings_of_its_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_all_components()
    (container,) = one_of(found, "StatefulSet", "console")["spec"]["template"]["spec"]["containers"]
    assert enter(found, container, monkeypatch) == 8
    settings = load(ConsoleSettings)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    addresses = {"operators": settings.listen, "share": settings.share_listen, "http": settings.metrics_listen}
    assert ports == {"operators": OPERATORS_PORT, "share": SHARE_PORT, "http": METRICS_PORT}
    assert ports == {name: int(address.rpartition(":")[2]) for name, address in addresses.items()}
    for service in ("groups", "payments"):
        assert getattr(settings, service) == f"{service}:{GRPC_PORTS[service]}"
        one_of(found, "Service", service)
    kafka = cluster(settings.kafka)
    assert isinstance(kafka, Cluster)
    assert (kafka.security.user, kafka.security.password) == ("ops", "password")
    assert not settings.insecure
    links = config_of(found, "groups")["GROUPBUY_GROUPS_LINK_BASE_URL"]
    assert links == f"{settings.public_url}/s/"


def test_campaigns_with_stock_are_off_without_the_inventory() -> None:
    for found, on in ((of("base"), False), (with_all_components(), True)):
        for name in ("orders", "groups"):
            assert config_of(found, name).get(f"GROUPBUY_{name.upper()}_INVENTORY", "false") == str(on).lower()
        assert ("inventory" in pods(found)) is on


def config_of(found: Sequence[Document], name: str) -> dict[str, str]:
    """The data of the ConfigMap of a workload, which its pods name with the hash of the content."""
    (container,) = pods(found)[name]["spec"]["containers"]
    data: dict[str, str] = {}
    for source in container["envFrom"]:
        data |= one_of(found, "ConfigMap", source["configMapRef"]["name"])["data"]
    return data


@pytest.mark.parametrize("name", [*SERVICES, "watch", "console", "topics", "replay"])
def test_groupbuy_ops_in_a_pod_has_its_user_and_valid_arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = documents((K8S / "temporary" / "replay-job.yaml").read_text(encoding="utf-8"))
    found = [*(with_all_components() if name in {"inventory", "console"} else of("overlays/production")), *replay]
    pod = pods(found)[name]["spec"]
    called = [one for one in [*pod["containers"], *pod.get("initContainers", [])] if one["args"][0] == "groupbuy-ops"]
    assert len(called) == (2 if name == "watch" else 1)
    users = {"watch": "ops", "console": "ops", "topics": "provision", "replay": "ops"}
    (secret,) = [one["secret"]["secretName"] for one in pod["volumes"] if one["name"] == "kafka-user"]
    assert secret == users.get(name, name)
    mounts = {one["mountPath"]: one["name"] for one in called[0]["volumeMounts"]}
    assert mounts["/kafka/user"] == "kafka-user"
    for container in called:
        known, words = dict(commands()), container["args"]
        called_as = next(one for one in (" ".join(words[:3]), " ".join(words[:2])) if one in known)
        with known[called_as].make_context(called_as, words[len(called_as.split()) :]):
            pass
        monkeypatch.setattr(Path, "is_file", lambda _: True)
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: "password")
        for variable, value in settings_of(found, container).items():
            monkeypatch.setenv(variable, value)
        kafka = cluster(broker(None))
        assert isinstance(kafka, Cluster)
        assert str(kafka) == "kafka-kafka-bootstrap:9093"
        assert (kafka.security.user, kafka.security.password) == (secret, "password")
        assert str(kafka.security.ca) == "/kafka/ca/ca.crt"


def settings_of(found: Sequence[Document], container: Document) -> dict[str, str]:
    """The environment of a container in the pod `<name>-1`, without optional secrets."""
    given: dict[str, str] = {}
    for source in container.get("envFrom", []):
        given |= one_of(found, "ConfigMap", source["configMapRef"]["name"])["data"]
    fields = {"metadata.name": f"{container['name']}-1", "metadata.namespace": "groupbuy"}
    for one in container["env"]:
        if "value" in one:
            text = one["value"]
            for name, value in given.items():
                text = text.replace(f"$({name})", value)
            given[one["name"]] = text
        elif "fieldRef" in one["valueFrom"]:
            given[one["name"]] = fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
        else:
            assert one["valueFrom"]["secretKeyRef"]["optional"]
    return given


@pytest.mark.parametrize("overlay", ["overlays/development", "overlays/production", ""])
def test_every_pod_is_restricted(overlay: str) -> None:
    replay = documents((K8S / "temporary" / "replay-job.yaml").read_text(encoding="utf-8"))
    found = pods([*(of(overlay) if overlay else with_all_components()), *replay])
    optional = {"inventory", "console"} if not overlay else set()
    assert set(found) >= {*SERVICES.keys() - {"inventory"}, "watch", "topics", "replay", *optional}
    for name, template in found.items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert "cpu" not in container["resources"]["limits"]
            assert "livenessProbe" not in container


def test_replicas_are_divisors_of_the_partitions_and_the_budget_lets_nodes_drain() -> None:
    found = of("overlays/production")
    topics = [one for one in found if one["kind"] == "KafkaTopic"]
    assert {one["spec"]["partitions"] for one in topics} == {PARTITIONS}
    found += [one for one in with_all_components() if one["metadata"]["name"] == "inventory"]
    for service in SERVICES:
        workload = one_of(found, "StatefulSet", service)["spec"]
        assert PARTITIONS % workload["replicas"] == 0
        assert workload["replicas"] > 1
        budget = one_of(found, "PodDisruptionBudget", service)["spec"]
        assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
        assert budget["selector"] == workload["selector"]
        headless = one_of(found, "Service", service)["spec"]
        assert (headless["clusterIP"], headless["publishNotReadyAddresses"]) == ("None", True)
        assert headless["selector"].items() <= workload["template"]["metadata"]["labels"].items()
