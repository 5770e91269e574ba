"""`groupbuy-ops export k8s`: the committed files are its output, and follow from topics, rights and policy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chassis.identity.peer_identity import server_name
from eventlog.admin.acls import Grant, Operation, Resource, grants
from eventlog.admin.topic_creation import creation_config
from ops.broker.topics import PARTITIONS
from ops.errors import CANNOT_RUN, OK
from ops.export import identity_resources
from ops.export.kubernetes_files import kubernetes_files
from ops.export.yaml_text import documents as text_of
from ops.main import main
from services.groups.settings import GroupsSettings
from services.inventory.settings import InventorySettings
from services.orders.settings import OrdersSettings
from services.payments.settings import PaymentsSettings
from shared_kernel.topics import ALL, GROUP_PREFIX
from simulators.psp.settings import Settings as ProviderSettings
from tests.unit.deploy.external_tools import module

K8S = Path(__file__).parents[3] / "deploy" / "k8s"
FILES = kubernetes_files(PARTITIONS, 3)
POLICY = Path(__file__).parents[3] / "chassis" / "identity" / "policy.toml"
OPERATIONS = {"".join(word.title() for word in one.name.split("_")): one for one in Operation}


def parsed(name: str) -> list[dict[str, Any]]:
    return list(module("yaml").safe_load_all(FILES[name]))


@pytest.mark.parametrize("name", FILES)
def test_the_committed_file_is_the_generated_one(name: str) -> None:
    assert (K8S / name).read_text(encoding="utf-8") == FILES[name], "run `make docs`"


def test_topics_are_those_that_topics_create_makes() -> None:
    found = parsed("components/strimzi-cluster/topics.yaml")
    assert [one["metadata"]["name"] for one in found] == [topic.name for topic in ALL]
    for one, topic in zip(found, ALL, strict=True):
        config = {
            name: str(value).lower() if value is False else str(value) for name, value in one["spec"]["config"].items()
        }
        assert config == creation_config(topic, 3)
        assert (one["spec"]["partitions"], one["spec"]["replicas"]) == (PARTITIONS, 3)


def granted(users: Sequence[dict[str, Any]]) -> set[Grant]:
    return {
        Grant(
            user["metadata"]["name"],
            Resource[acl["resource"]["type"].upper()],
            acl["resource"].get("name", "kafka-cluster"),
            OPERATIONS[operation],
            acl["resource"].get("patternType") == "prefix",
        )
        for user in users
        for acl in user["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    }


def test_users_have_exactly_the_rights_that_acls_check_wants() -> None:
    permanent = parsed("components/strimzi-cluster/users.yaml")
    assert granted(permanent) == set(grants(ALL, GROUP_PREFIX))
    temporary = [*parsed("components/topics-job/user.yaml"), *parsed("temporary/redrive-user.yaml")]
    assert granted([*permanent, *temporary]) == set(grants(ALL, GROUP_PREFIX, redrive=True, provision=True))
    assert [one["metadata"]["name"] for one in permanent] == [
        "groups",
        "inventory",
        "ops",
        "orders",
        "payments",
        "reader",
    ]


def test_each_identity_has_a_certificate_and_servers_have_their_dns_name() -> None:
    found = {one["metadata"]["name"]: one["spec"] for one in parsed("components/cert-manager/certificates.yaml")}
    identities = identity_resources.access(POLICY).identities
    assert set(found) == set(identities)
    for name, spiffe in identities.items():
        assert found[name]["uris"] == [spiffe]
        serves = "/service/" in spiffe
        assert found[name].get("dnsNames") == ([server_name(spiffe)] if serves else None)
        assert ("server auth" in found[name]["usages"]) is serves


def test_ports_are_those_of_the_settings() -> None:
    listens = {
        "orders": OrdersSettings.model_fields["listen"].default,
        "groups": GroupsSettings.model_fields["listen"].default,
        "payments": PaymentsSettings.model_fields["listen"].default,
        "provider": ProviderSettings.model_fields["listen"].default,
        "inventory": InventorySettings.model_fields["listen"].default,
    }
    assert {name: int(one.rpartition(":")[2]) for name, one in listens.items()} == dict(identity_resources.GRPC_PORTS)


def test_network_policies_follow_the_access_policy() -> None:
    found = {one["metadata"]["name"]: one["spec"] for one in parsed("components/network-policies/policies.yaml")}
    serving = ("orders", "groups", "payments", "inventory", "provider")
    assert set(found) == {f"groupbuy-{one}" for one in ("default", *serving, "watch", "topics", "ops", "console")}
    default = found["groupbuy-default"]
    assert default["podSelector"] == {"matchLabels": {"app.kubernetes.io/part-of": "groupbuy"}}
    assert (default["policyTypes"], "ingress" in default) == (["Ingress", "Egress"], False)
    assert clients(found["groupbuy-orders"]) == ["monitor", "operator", "shop", "support"]
    assert clients(found["groupbuy-payments"]) == [
        "console", "finance", "monitor", "operator", "support", "webhooks",
    ]  # fmt: skip
    assert pods(found["groupbuy-payments"]["ingress"]) == ["payments", "console"]
    console = found["groupbuy-console"]
    ports = {rule["ports"][0]["port"]: rule["from"] for rule in console["ingress"]}
    labels = {port: sources[0]["namespaceSelector"]["matchLabels"] for port, sources in ports.items()}
    assert labels == {
        50060: {"groupbuy.internal/operators": "true"},
        50061: {"groupbuy.internal/share": "true"},
        9400: {"groupbuy.internal/monitoring": "true"},
    }
    assert [rule["ports"][0]["port"] for rule in console["egress"]] == [9093, 50052, 50053, 50055]
    # Only payments may call the provider, and only payments may leave the cluster.
    assert pods(found["groupbuy-provider"]["ingress"]) == ["payments"]
    for name, spec in found.items():
        outside = any("ipBlock" in peer for rule in spec.get("egress", []) for peer in rule["to"])
        assert outside is (name == "groupbuy-payments")
    assert found["groupbuy-provider"]["egress"] == []


def clients(spec: dict[str, Any]) -> list[str]:
    (names,) = [
        peer["podSelector"]["matchExpressions"][0]["values"]
        for rule in spec["ingress"]
        for peer in rule["from"]
        if "matchExpressions" in peer.get("podSelector", {})
    ]
    return list(names)


def pods(rules: Sequence[dict[str, Any]]) -> list[str]:
    return [
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for rule in rules
        for peer in rule["from"]
        if "matchLabels" in peer.get("podSelector", {})
    ]


def test_a_policy_of_ones_own_changes_who_may_connect(tmp_path: Path) -> None:
    text = POLICY.read_text(encoding="utf-8")
    text = text.replace("[identities]", '[identities]\nreports = "spiffe://groupbuy.internal/client/reports"')
    own = tmp_path / "policy.toml"
    own.write_text(text.replace('ListGroups  = ["shop",', 'ListGroups  = ["reports", "shop",'))
    files = kubernetes_files(4, 1, own)
    found = list(module("yaml").safe_load_all(files["components/network-policies/policies.yaml"]))
    by_name = {one["metadata"]["name"]: one["spec"] for one in found}
    assert "reports" in clients(by_name["groupbuy-groups"])
    assert "reports" not in clients(by_name["groupbuy-orders"])
    assert "spiffe://groupbuy.internal/client/reports" in files["components/cert-manager/certificates.yaml"]


def test_the_command_prints_or_writes_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "k8s", "--json"]) == OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["name"]: one["text"] for one in lines} == FILES
    assert main(["export", "k8s", "--out", str(tmp_path)]) == OK
    assert {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*.yaml")} == set(FILES)
    capsys.readouterr()
    assert main(["export", "k8s", "--policy", str(tmp_path / "none.toml")]) == CANNOT_RUN
    assert "none.toml can't be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value",
    [
        {"a": "true", "b": "1.5", "c": "yes", "d": True, "e": 3, "f": -1, "g": "", "h": "a: b", "i": "- a", "j": "#"},
        {"a": [], "b": {}, "c": [1, "x"], "d": [{"e": [{"f": 1}, []]}, "g", {}], "k": "two\nlines", "l": "line\n"},
        {"list": ["x" * 60, "y" * 60], "0440": "0440", "null": "null", "~": "~", "n": "\x07 é ¥", "empty": [""]},
    ],
)
def test_yaml_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    assert list(module("yaml").safe_load_all(text_of([value, value], "a\nb"))) == [value, value]
    assert module("yaml").safe_load(text_of([value], "a")) == value
