"""gRPC service configs, generated from the contract: which calls a gRPC client retries by itself, and how.

`python -m chassis.rpc.client_config.service_config` writes one JSON file a service process into
protos/service_config/. Any gRPC client accepts it as its `grpc.service_config`. Only UNAVAILABLE is retried, which is
safe for all of our calls: a write has a request id or states the wanted state. A client's retries are not limited as a
whole (`retryThrottling`): gRPC would allow 500 failures at most, and a client with 200 calls a second has as many while
a service restarts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from groupbuy.groups.v1 import campaigns_pb2, groups_pb2, links_pb2
from groupbuy.orders.v1 import orders_pb2
from groupbuy.payments.v1 import operator_pb2, payments_pb2

from chassis.rpc.client_config.retry_policy import retry_policy

FOLDER = Path(__file__).resolve().parents[3] / "protos" / "service_config"
#: Files of the contract by service process.
FILES: dict[str, tuple[FileDescriptor, ...]] = {
    "orders": (orders_pb2.DESCRIPTOR,),
    "groups": (groups_pb2.DESCRIPTOR, campaigns_pb2.DESCRIPTOR, links_pb2.DESCRIPTOR),
    "payments": (payments_pb2.DESCRIPTOR, operator_pb2.DESCRIPTOR),
}


def config(service: str) -> dict[str, Any]:
    """The service config for all calls to a service process."""
    methods = [method for file in FILES[service] for one in file.services_by_name.values() for method in one.methods]
    # Calls with streamed requests are not retried: the client would keep all of them in memory.
    retried = [
        {"service": method.containing_service.full_name, "method": method.name}
        for method in methods
        if not method.client_streaming
    ]
    return {"methodConfig": [{"name": retried, "retryPolicy": retry_policy()}]}


def text(service: str) -> str:
    """The content of a service's file."""
    return json.dumps(config(service), indent=2) + "\n"


def path(service: str) -> Path:
    """The path of a service's file."""
    return FOLDER / f"{service}.json"


def main() -> None:
    """Writes the files."""
    FOLDER.mkdir(exist_ok=True)
    for service in FILES:
        path(service).write_text(text(service), encoding="utf-8")


if __name__ == "__main__":
    main()
