"""Topics and users as resources of the Strimzi operator: KafkaTopic and KafkaUser.

The operator owns the rights of these users. `groupbuy-ops acls check` compares them with the same list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from eventlog.admin.acls import PROVISIONER, REDRIVER, Grant, Resource, grants
from eventlog.admin.topic_creation import creation_config
from eventlog.records.topic_spec import TopicSpec

API_VERSION = "kafka.strimzi.io/v1"
#: Name of the Kafka resource.
CLUSTER = "kafka"


def kafka_topics(topics: Sequence[TopicSpec], partitions: int, replication: int) -> list[dict[str, Any]]:
    """A KafkaTopic per topic, with the settings that `groupbuy-ops topics create` uses."""
    return [
        _resource(
            "KafkaTopic",
            topic.name,
            {
                "partitions": partitions,
                "replicas": replication,
                "config": {name: _value(value) for name, value in creation_config(topic, replication).items()},
            },
        )
        for topic in topics
    ]


def kafka_users(topics: Sequence[TopicSpec], group_prefix: str) -> list[dict[str, Any]]:
    """A KafkaUser per service, and one for the command line."""
    return [_user(*one) for one in _by_principal(grants(topics, group_prefix))]


def provision_user(topics: Sequence[TopicSpec], group_prefix: str) -> dict[str, Any]:
    """The KafkaUser that creates topics and commits first offsets."""
    found = dict(_by_principal(grants(topics, group_prefix, provision=True)))
    return _user(PROVISIONER, found[PROVISIONER])


def redrive_user(topics: Sequence[TopicSpec], group_prefix: str) -> dict[str, Any]:
    """The KafkaUser that writes dead letters back."""
    found = dict(_by_principal(grants(topics, group_prefix, redrive=True)))
    return _user(REDRIVER, found[REDRIVER])


def _by_principal(granted: Iterable[Grant]) -> list[tuple[str, list[Grant]]]:
    return [(name, list(group)) for name, group in groupby(sorted(granted), key=lambda one: one.principal)]


def _user(name: str, granted: Sequence[Grant]) -> dict[str, Any]:
    acls = [
        {"resource": _resource_of(first), "operations": [_operation(one) for one in same]}
        for first, same in _by_resource(granted)
    ]
    spec = {"authentication": {"type": "scram-sha-512"}, "authorization": {"type": "simple", "acls": acls}}
    return _resource("KafkaUser", name, spec)


def _by_resource(granted: Sequence[Grant]) -> list[tuple[Grant, list[Grant]]]:
    together: dict[tuple[Resource, str, bool], list[Grant]] = {}
    for one in granted:
        together.setdefault((one.resource, one.name, one.prefixed), []).append(one)
    return [(same[0], same) for same in together.values()]


def _resource_of(one: Grant) -> dict[str, Any]:
    if one.resource is Resource.CLUSTER:
        return {"type": "cluster"}
    pattern = "prefix" if one.prefixed else "literal"
    return {"type": one.resource.name.lower(), "name": one.name, "patternType": pattern}


def _operation(one: Grant) -> str:
    return "".join(word.title() for word in one.operation.name.split("_"))


def _value(text: str) -> Any:
    """A number or a truth value of a topic's settings as such: the operator compares them with the broker's."""
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if text.lstrip("-").isdigit() else text


def _resource(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"strimzi.io/cluster": CLUSTER}}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)}
