"""Certificates for cert-manager and network policies, from the access policy.

A network policy only limits who may connect. Calls are authorised by the certificate, in each process.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chassis.identity import policy
from chassis.identity.peer_identity import server_name

#: Ports of the pods.
GRPC_PORTS: Mapping[str, int] = {
    "orders": 50051,
    "groups": 50052,
    "payments": 50053,
    "provider": 50054,
    "inventory": 50055,
}
METRICS_PORT = 9400
WEBHOOKS_PORT = 8080
KAFKA_PORT = 9093
#: The console's pods: their name, the ports of the pages for operators and of the share page, and the services that
#: they call, each of them at least for its health; inventory if there is one.
CONSOLE = "console"
OPERATORS_PORT, SHARE_PORT = 50060, 50061
_CONSOLE_CALLS = ("groups", "payments", "inventory")
#: Labels. A client's pod has the name of its identity, its namespace is marked as one with clients.
IDENTITY_LABEL = "groupbuy.internal/identity"
NAMESPACES = {name: f"groupbuy.internal/{name}" for name in ("clients", "monitoring", "operators", "share", "webhooks")}
NAME, PART_OF = "app.kubernetes.io/name", "app.kubernetes.io/part-of"
#: Pods that use Kafka and serve no gRPC.
_TOOLS = ("watch", "topics", "ops")
#: Addresses that a payment provider can't have: private networks, loopback and the node's metadata service.
_NOT_PUBLIC = ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")


@dataclass(frozen=True, slots=True)
class Access:
    """The identities of a policy, and who calls whom."""

    #: SPIFFE id of each identity.
    identities: Mapping[str, str]
    #: Identities that may call a method of a service's own, or only the health of every process.
    callers: Mapping[str, tuple[str, ...]]

    @property
    def services(self) -> tuple[str, ...]:
        """The identities of services, the simulated provider included."""
        return tuple(self.callers)


def access(file: Path) -> Access:
    """Reads the policy. Raises PolicyError."""
    every: dict[str, str] = {}
    callers: dict[str, set[str]] = {}
    for service in GRPC_PORTS:
        read = policy.read(file, service)
        every |= {name: spiffe for spiffe, name in read.names.items()}
        own = [method for method in read.allowed if not method.startswith(tuple(f"/{one}/" for one in _common(file)))]
        callers[service] = {name for method in own for name in read.allowed[method]}
    listed = set().union(*callers.values())
    # They can call nothing but the health of every process.
    health = every.keys() - listed - callers.keys()
    return Access(every, {service: tuple(sorted(found | health)) for service, found in callers.items()})


def _common(file: Path) -> Iterable[str]:
    """Full names of the gRPC services that every process has."""
    found: Mapping[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    return tuple(found.get(policy.EVERY, {}))


def certificates(found: Access) -> list[dict[str, Any]]:
    """A Certificate per identity. A service's has the DNS name that its callers expect."""
    return [_certificate(name, spiffe, name in found.services) for name, spiffe in found.identities.items()]


def _certificate(name: str, spiffe: str, serves: bool) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "secretName": f"{name}-tls",
        "uris": [spiffe],
        **({"dnsNames": [server_name(spiffe)]} if serves else {}),
        "duration": "720h",
        "renewBefore": "240h",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"},
        "usages": ["digital signature", "client auth", *(["server auth"] if serves else [])],
        "issuerRef": {"group": "cert-manager.io", "kind": "Issuer", "name": "groupbuy"},
    }
    return {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name}, "spec": spec}


def network_policies(found: Access) -> list[dict[str, Any]]:
    """Nothing is allowed to our pods but DNS, and the connections that the policy and Kafka need."""
    everything = {"podSelector": {"matchLabels": {PART_OF: "groupbuy"}}, "policyTypes": ["Ingress", "Egress"]}
    dns = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    resolver = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    rules = [_network_policy("default", everything | {"egress": [{"to": [resolver], "ports": dns}]})]
    rules += [_of_service(service, found) for service in found.services]
    kafka = {"egress": [_to_kafka()]}
    rules += [_of_tool(name, kafka | (_scraped() if name == "watch" else {})) for name in _TOOLS]
    return [*rules, _of_console()]


def _of_console() -> dict[str, Any]:
    pages = (("operators", OPERATORS_PORT), ("share", SHARE_PORT))
    ingress = [{"from": [_namespaces(name)], "ports": _tcp(port)} for name, port in pages]
    calls = [{"to": [_pods(name)], "ports": _tcp(GRPC_PORTS[name])} for name in _CONSOLE_CALLS]
    return _of_tool(CONSOLE, {"ingress": [*ingress, *_scraped()["ingress"]], "egress": [_to_kafka(), *calls]})


def _of_service(service: str, found: Access) -> dict[str, Any]:
    port = GRPC_PORTS[service]
    callers = found.callers[service]
    sources: list[dict[str, Any]] = [_pods(service)] if service != "provider" else []
    sources += [_pods(name) for name in callers if name in found.services]
    if service in _CONSOLE_CALLS:
        sources.append(_pods(CONSOLE))
    if clients := [name for name in callers if name not in found.services]:
        labelled = {"matchExpressions": [{"key": IDENTITY_LABEL, "operator": "In", "values": clients}]}
        sources.append(_namespaces("clients") | {"podSelector": labelled})
    ingress = [{"from": sources, "ports": _tcp(port)}]
    egress: list[dict[str, Any]] = []
    if service != "provider":
        ingress += _scraped()["ingress"]
        called = [name for name in found.services if service in found.callers[name]]
        egress += [
            _to_kafka(),
            *({"to": [_pods(name)], "ports": _tcp(GRPC_PORTS[name])} for name in [service, *called]),
        ]
    if service == "payments":
        ingress.append({"from": [_namespaces("webhooks")], "ports": _tcp(WEBHOOKS_PORT)})
        public = {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_NOT_PUBLIC)}}
        egress.append({"to": [public], "ports": _tcp(443)})
    return _of_tool(service, {"ingress": ingress, "egress": egress})


def _of_tool(name: str, rules: Mapping[str, Any]) -> dict[str, Any]:
    types = [kind.title() for kind in ("ingress", "egress") if kind in rules]
    selected = {"podSelector": {"matchLabels": {NAME: name, PART_OF: "groupbuy"}}, "policyTypes": types}
    return _network_policy(name, selected | dict(rules))


def _scraped() -> dict[str, Any]:
    return {"ingress": [{"from": [_namespaces("monitoring")], "ports": _tcp(METRICS_PORT)}]}


def _to_kafka() -> dict[str, Any]:
    brokers = {"podSelector": {"matchLabels": {"strimzi.io/cluster": "kafka", "strimzi.io/kind": "Kafka"}}}
    return {"to": [brokers], "ports": _tcp(KAFKA_PORT)}


def _pods(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {NAME: name, PART_OF: "groupbuy"}}}


def _namespaces(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {NAMESPACES[name]: "true"}}}


def _tcp(port: int) -> Sequence[Mapping[str, Any]]:
    return [{"protocol": "TCP", "port": port}]


def _network_policy(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": f"groupbuy-{name}"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": dict(spec)}
