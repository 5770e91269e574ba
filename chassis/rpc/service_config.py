"""gRPC service configs, made from the contract: which calls a client library repeats by itself, and how patiently.

`python -m chassis.rpc.service_config` writes one JSON file for each of our services into protos/service_config/; any
gRPC client takes one as its `grpc.service_config`. Only UNAVAILABLE is repeated. That is safe for every call of ours:
each write is known by its request id, or says what shall be and not what to do. Servers name the delay where they know
it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from groupbuy.groups.v1 import campaigns_pb2, groups_pb2, links_pb2
from groupbuy.orders.v1 import orders_pb2
from groupbuy.payments.v1 import payments_pb2

FOLDER = Path(__file__).resolve().parents[2] / "protos" / "service_config"
#: Files of the contract by service process.
FILES: dict[str, tuple[FileDescriptor, ...]] = {
    "orders": (orders_pb2.DESCRIPTOR,),
    "groups": (groups_pb2.DESCRIPTOR, campaigns_pb2.DESCRIPTOR, links_pb2.DESCRIPTOR),
    "payments": (payments_pb2.DESCRIPTOR,),
}
#: Five attempts within about two seconds: a service that restarts or a partition that moves is back by then.
RETRY: dict[str, Any] = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
#: A client whose calls mostly fail stops repeating them.
THROTTLING = {"maxTokens": 100, "tokenRatio": 0.1}


def config(service: str) -> dict[str, Any]:
    """The service config for all calls to a service process."""
    methods = [method for file in FILES[service] for one in file.services_by_name.values() for method in one.methods]
    names = [{"service": method.containing_service.full_name, "method": method.name} for method in methods]
    # What a client has streamed would be kept in memory for the case that it must be sent again.
    once = [name for name, method in zip(names, methods, strict=True) if _streams_in(method)]
    repeated = [name for name in names if name not in once]
    made: dict[str, Any] = {
        "methodConfig": [{"name": repeated, "retryPolicy": RETRY}],
        "retryThrottling": THROTTLING,
    }
    if once:
        made["methodConfig"].append({"name": once})
    return made


def text(service: str) -> str:
    """The file of a service."""
    return json.dumps(config(service), indent=2) + "\n"


def path(service: str) -> Path:
    """Where the file of a service stands."""
    return FOLDER / f"{service}.json"


def _streams_in(method: MethodDescriptor) -> bool:
    return bool(method.client_streaming)


def main() -> None:
    """Writes the files."""
    FOLDER.mkdir(exist_ok=True)
    for service in FILES:
        path(service).write_text(text(service), encoding="utf-8")


if __name__ == "__main__":
    main()
