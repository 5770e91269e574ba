"""The keys of the custom resources that our manifests may use, from the operators' documentation.

A closed check: operators ignore a key that they do not know, so a misspelled one would have no effect. The schemas of
these resources are in no registry as closed ones; `CRDS` of test_k8s_manifests.py validates against real ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Any content, such as the settings of a topic.
ANY: Mapping[str, Any] = {"*": None}
_ISSUER: Mapping[str, Any] = {"group": {}, "kind": {}, "name": {}}
_SELECTOR: Mapping[str, Any] = {"parameter": {}, "name": {}, "key": {}}
_STORAGE: Mapping[str, Any] = {"type": {}, "size": {}, "deleteClaim": {}}

SPECS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("kafka.strimzi.io/v1", "KafkaTopic"): {"partitions": {}, "replicas": {}, "config": ANY},
    ("kafka.strimzi.io/v1", "KafkaUser"): {
        "authentication": {"type": {}},
        "authorization": {
            "type": {},
            "acls": {"resource": {"type": {}, "name": {}, "patternType": {}}, "operations": {}},
        },
    },
    ("kafka.strimzi.io/v1", "KafkaNodePool"): {"replicas": {}, "roles": {}, "storage": _STORAGE},
    ("kafka.strimzi.io/v1", "Kafka"): {
        "kafka": {
            "listeners": {"name": {}, "port": {}, "type": {}, "tls": {}, "authentication": {"type": {}}},
            "authorization": {"type": {}},
            "rack": {"topologyKey": {}},
            "config": ANY,
        },
        "entityOperator": {"topicOperator": {}, "userOperator": {}},
    },
    ("cert-manager.io/v1", "Issuer"): {"selfSigned": {}, "ca": {"secretName": {}}},
    ("cert-manager.io/v1", "Certificate"): {
        "isCA": {},
        "commonName": {},
        "secretName": {},
        "uris": {},
        "dnsNames": {},
        "duration": {},
        "renewBefore": {},
        "privateKey": {"algorithm": {}, "size": {}, "encoding": {}, "rotationPolicy": {}},
        "usages": {},
        "issuerRef": _ISSUER,
    },
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector": {"matchLabels": ANY},
        "podMetricsEndpoints": {
            "port": {},
            "path": {},
            "interval": {},
            "scrapeTimeout": {},
            "relabelings": {"sourceLabels": {}, "targetLabel": {}, "replacement": {}},
        },
    },
    ("keda.sh/v1alpha1", "TriggerAuthentication"): {"configMapTargetRef": _SELECTOR, "secretTargetRef": _SELECTOR},
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef": {"kind": {}, "name": {}},
        "minReplicaCount": {},
        "maxReplicaCount": {},
        "pollingInterval": {},
        "cooldownPeriod": {},
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "behavior": {
                    "scaleUp": {
                        "stabilizationWindowSeconds": {},
                        "policies": {"type": {}, "value": {}, "periodSeconds": {}},
                    },
                    "scaleDown": {"selectPolicy": {}},
                }
            }
        },
        "triggers": {"type": {}, "metadata": ANY, "authenticationRef": {"name": {}}},
    },
}


def unknown_keys(resource: Mapping[str, Any]) -> list[str]:
    """Paths of the keys of a resource that are not in SPECS."""
    known = {"apiVersion", "kind", "metadata", "spec"}
    found = [key for key in resource if key not in known]
    return [*found, *_unknown(resource["spec"], SPECS[resource["apiVersion"], resource["kind"]], "spec")]


def _unknown(value: Any, known: Mapping[str, Any], path: str) -> Iterator[str]:
    if known is ANY:
        return
    if isinstance(value, list):
        for one in value:
            yield from _unknown(one, known, path)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key in known:
                yield from _unknown(inner, known[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
