"""The manifests of deploy/k8s: every combination of components builds and is valid, and the pods are as they should be.

The environment variable CRDS may name a folder with the CustomResourceDefinitions of Strimzi, cert-manager, KEDA and
the Prometheus operator as YAML; then the resources are validated against these, closed. Without it, packages from npm
have the (open) schemas of three of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from chassis.lifecycle.runner import STOP_SLACK_S
from chassis.lifecycle.settings import ServiceSettings, load
from docs.commands_page import commands
from eventlog.broker.security import Cluster
from ops.broker.topics import PARTITIONS
from ops.export.identity_resources import GRPC_PORTS, METRICS_PORT, WEBHOOKS_PORT
from ops.security import cluster
from ops.where import broker
from services.groups.settings import GroupsSettings
from services.orders.settings import OrdersSettings
from services.payments.settings import PaymentsSettings
from tests.unit.deploy.custom_resources import SPECS, unknown_keys
from tests.unit.deploy.external_tools import kustomize, module, npm

pytestmark = pytest.mark.timeout(300)

K8S = Path(__file__).parents[3] / "deploy" / "k8s"
COMPONENTS = sorted(one.name for one in (K8S / "components").iterdir())
VERSION = "1.36"
SERVICES: Mapping[str, type[ServiceSettings]] = {
    "orders": OrdersSettings,
    "groups": GroupsSettings,
    "payments": PaymentsSettings,
}
#: Files that a Secret's volume makes at run time.
MOUNTED = ("/tls", "/kafka")
#: Seconds in addition to the time that a process takes to stop.
RESERVE_S = 5
SCRIPT = """
const found = JSON.parse(require("fs").readFileSync(0)), bad = [];
for (const [path, kind, document] of found) {
  try { new (require(path)[kind])(document).validate(); } catch (error) { bad.push(`${kind}: ${error.message}`); }
}
console.log(JSON.stringify(bad));
"""
Document = dict[str, Any]


def build(folder: Path) -> str:
    done = subprocess.run([*kustomize(), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def documents(text: str) -> list[Document]:
    yaml = module("yaml")
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


@cache
def of(name: str) -> list[Document]:
    """The documents of an overlay, or of the base."""
    return documents(build(K8S / name))


def one_of(found: Sequence[Document], kind: str, name: str) -> Document:
    (one,) = [one for one in found if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return one


def combined(place: Path, components: Sequence[str]) -> str:
    """The output for the base with some components."""
    folder = place / ("-".join(components) or "none")
    folder.mkdir()
    path = os.path.relpath(K8S, folder)
    (folder / "kustomization.yaml").write_text(
        json.dumps(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "namespace": "groupbuy",
                "resources": [f"{path}/base"],
                "components": [f"{path}/components/{one}" for one in components],
            }
        )
    )
    return build(folder)


def kubernetes(document: Document) -> bool:
    return (document["apiVersion"], document["kind"]) not in SPECS


def check(document: Document) -> None:
    """Raises ValidationError or AssertionError."""
    if kubernetes(document):
        module("kubernetes_validate").validate(document, VERSION, strict=True)
    else:
        assert unknown_keys(document) == [], document["metadata"]["name"]


def test_every_combination_of_components_builds_and_is_valid(tmp_path: Path) -> None:
    chosen = [few for count in range(len(COMPONENTS) + 1) for few in combinations(COMPONENTS, count)]
    assert len(chosen) == 2 ** len(COMPONENTS) >= 128
    kustomize(), module("yaml")
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda few: combined(tmp_path, few), chosen))
    different = {part for text in built for part in text.split("\n---\n")}
    assert len(different) > 60
    for part in different:
        (document,) = documents(part)
        check(document)
    kinds = {(one["apiVersion"], one["kind"]) for one in documents(built[-1])}
    assert kinds >= set(SPECS), "every custom resource is in the last combination"


@pytest.mark.parametrize("overlay", ["overlays/development", "overlays/production"])
def test_an_overlay_builds_and_is_valid(overlay: str) -> None:
    found = of(overlay)
    assert len(found) > 50
    for document in found:
        check(document)
        if document["kind"] != "Namespace":
            assert document["metadata"].get("namespace") == "groupbuy", document["metadata"]


@pytest.mark.parametrize("file", sorted((K8S / "temporary").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_temporary_manifest_is_valid(file: Path) -> None:
    for document in documents(file.read_text(encoding="utf-8")):
        check(document)


def test_the_checks_find_a_misspelled_key() -> None:
    document = deepcopy(one_of(of("base"), "StatefulSet", "groups"))
    document["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(module("kubernetes_validate").ValidationError):
        check(document)
    document = deepcopy(one_of(of("overlays/production"), "KafkaUser", "orders"))
    document["spec"]["authorization"]["acls"][0]["operation"] = ["Read"]
    assert unknown_keys(document) == ["spec.authorization.acls.operation"]


def everything(tmp_path: Path) -> list[Document]:
    return [one for one in documents(combined(tmp_path, COMPONENTS)) if not kubernetes(one)]


def test_custom_resources_are_valid_by_the_schemas_of_npm(tmp_path: Path) -> None:
    packages = {
        "cert-manager.io": "@kubernetes-models/cert-manager",
        "keda.sh": "@kubernetes-models/keda",
        "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
    }
    found, modules = [], npm()
    for one in everything(tmp_path):
        group, version = one["apiVersion"].split("/")
        if group in packages:
            path = modules / packages[group] / group / version / f"{one['kind']}.js"
            found.append([str(path), one["kind"], one])
    assert len(found) >= 15
    broken = deepcopy(next(one for one in found if one[1] == "Certificate"))
    del broken[2]["spec"]["secretName"]
    done = subprocess.run(
        ["node", "-e", SCRIPT],
        input=json.dumps([*found, broken]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    problems = json.loads(done.stdout)
    assert len(problems) == 1, problems
    assert "secretName" in problems[0]


def test_custom_resources_are_valid_by_their_definitions(tmp_path: Path) -> None:
    if not os.environ.get("CRDS"):
        pytest.skip("CRDS names no folder with the operators' CustomResourceDefinitions, which no registry has")
    schemas = dict(_definitions(Path(os.environ["CRDS"])))
    for one in everything(tmp_path):
        module("jsonschema").validate(one, schemas[one["apiVersion"], one["kind"]])


def _definitions(folder: Path) -> Iterator[tuple[tuple[str, str], Any]]:
    for file in folder.glob("*.yaml"):
        (definition,) = documents(file.read_text(encoding="utf-8"))
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = deepcopy(version["schema"]["openAPIV3Schema"])
            _close(schema)
            schema["properties"]["metadata"] = {"type": "object"}
            yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema


def _close(schema: Any) -> None:
    """Forbids keys that a schema does not name, as the API server drops them."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for inner in schema.values():
            _close(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _close(inner)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_with_the_settings_of_its_pod(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = one_of(of("base"), "StatefulSet", service)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    names = {volume["mountPath"] for volume in container["volumeMounts"]}
    for name in [name for name in os.environ if name.startswith("GROUPBUY_")]:
        monkeypatch.delenv(name)
    given = settings_of(of("base"), container)
    files = [value for value in given.values() if value.startswith(MOUNTED)]
    assert len(files) == 5
    for file in files:
        assert any(file.startswith(f"{name}/") for name in names), file
    # The files exist in the pod only.
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "password")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
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


@pytest.mark.parametrize("name", [*SERVICES, "watch", "topics", "replay"])
def test_groupbuy_ops_in_a_pod_has_its_user_and_valid_arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = documents((K8S / "temporary" / "replay-job.yaml").read_text(encoding="utf-8"))
    found = [*of("overlays/production"), *replay]
    pod = pods(found)[name]["spec"]
    called = [one for one in [*pod["containers"], *pod.get("initContainers", [])] if one["args"][0] == "groupbuy-ops"]
    assert len(called) == (2 if name == "watch" else 1)
    users = {"watch": "ops", "topics": "provision", "replay": "ops"}
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


def pods(found: Sequence[Document]) -> dict[str, Document]:
    return {one["metadata"]["name"]: one["spec"]["template"] for one in found if "template" in one.get("spec", {})}


@pytest.mark.parametrize("overlay", ["overlays/development", "overlays/production"])
def test_every_pod_is_restricted(overlay: str) -> None:
    replay = documents((K8S / "temporary" / "replay-job.yaml").read_text(encoding="utf-8"))
    found = pods([*of(overlay), *replay])
    assert set(found) >= {*SERVICES, "watch", "topics", "replay"}
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


def test_no_manifest_can_delete_the_log() -> None:
    found = of("overlays/production")
    config = one_of(found, "Kafka", "kafka")["spec"]["kafka"]["config"]
    assert config["delete.topic.enable"] is False
    assert config["auto.create.topics.enable"] is False
    assert config["offsets.retention.minutes"] >= 5 * 365 * 24 * 60
    assert [one["spec"]["storage"]["deleteClaim"] for one in found if one["kind"] == "KafkaNodePool"] == [False, False]
    assert not any("finalizers" in one["metadata"] for one in found)
    assert not [one for one in found if one["metadata"]["name"] in {"provider", "groupbuy-provider", "redrive"}]
