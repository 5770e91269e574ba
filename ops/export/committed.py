"""The exported files that the repository has, with the defaults of `groupbuy-ops export`."""

from __future__ import annotations

from ops.broker.topics import PARTITIONS
from ops.export.asyncapi_document import asyncapi_document
from ops.export.kubernetes_files import kubernetes_files
from ops.export.tool_configs import Access, tool_configs
from shared_kernel.topics import ALL

REPLICATION = 3


def committed() -> dict[str, str]:
    """The text of each file by its path in the repository."""
    kubernetes, tools = kubernetes_files(PARTITIONS, REPLICATION), tool_configs(ALL, Access("kafka:9092"))
    return {
        **{f"deploy/k8s/{name}": text for name, text in kubernetes.items()},
        **{f"deploy/tools/{name}": text for name, text in tools.items()},
        "docs/asyncapi.yaml": asyncapi_document(ALL, PARTITIONS, REPLICATION, "../protos"),
    }
