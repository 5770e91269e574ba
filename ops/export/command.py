"""`export`: generates files for other programs from the topics and the access policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from chassis.identity import policy as access_policy
from ops.broker.topics import PARTITIONS
from ops.errors import cannot_run
from ops.export.asyncapi_document import asyncapi_document
from ops.export.committed import REPLICATION
from ops.export.kubernetes_files import kubernetes_files
from ops.export.tool_configs import Access, tool_configs
from ops.terminal.output import Json, Output
from shared_kernel.topics import ALL

app = typer.Typer(no_args_is_help=True, help="Generates files for other programs from the topics and the policy.")

Out = Annotated[Path | None, typer.Option("--out", help="Directory to write the files to. Default: they are printed.")]
Partitions = Annotated[int, typer.Option("--partitions", min=1, max=10_000, help="Partitions per topic.")]
Replication = Annotated[int, typer.Option("--replication", min=1, max=10, help="Replication factor.")]


@app.command("k8s")
def k8s(
    out: Out = None,
    partitions: Partitions = PARTITIONS,
    replication: Replication = REPLICATION,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="The access policy. Default: chassis/identity/policy.toml.")
    ] = None,
    json: Json = False,
) -> None:
    """Generates the Kubernetes resources that follow from the topics and the policy.

    They are KafkaTopic and KafkaUser of Strimzi, Certificate of cert-manager, and NetworkPolicy. The files have their
    places below deploy/k8s.

    Reads the access policy.

    Changes nothing at the broker. Writes the files with --out.

    Exit codes: 0 done, 2 cannot run.

    Example: groupbuy-ops export k8s --partitions 64
    """
    try:
        files = kubernetes_files(partitions, replication, policy or access_policy.FILE)
    except access_policy.PolicyError as error:
        raise cannot_run(str(error)) from None
    _deliver(files, out, Output(json))


@app.command("tools")
def tools(
    out: Out = None,
    brokers: Annotated[
        str, typer.Option("--brokers", help="Address of the brokers as the tools see it, host:port[,…].")
    ] = "kafka:9092",
    user: Annotated[str, typer.Option("--user", help="Kafka user, with SASL over TLS. Default: neither.")] = "",
    json: Json = False,
) -> None:
    """Generates configurations for kcat, AKHQ, Kafka UI, Redpanda Console, kaf and kafkactl.

    With them the tools show the records of each topic as their message type. Use the Kafka user `ops`, which can only
    read them. No file has a password.

    Reads nothing.

    Changes nothing at the broker. Writes the files with --out.

    Exit codes: 0 done, 2 cannot run.

    Example: groupbuy-ops export tools --brokers kafka:9093 --user ops --out deploy/tools
    """
    _deliver(tool_configs(ALL, Access(brokers, user)), out, Output(json))


@app.command("asyncapi")
def asyncapi(
    out: Out = None,
    partitions: Partitions = PARTITIONS,
    replication: Replication = REPLICATION,
    json: Json = False,
) -> None:
    """Generates an AsyncAPI 3.0 document of the topics.

    It refers to the proto files in ../protos.

    Reads nothing.

    Changes nothing at the broker. Writes the file asyncapi.yaml with --out.

    Exit codes: 0 done, 2 cannot run.

    Example: groupbuy-ops export asyncapi
    """
    text = asyncapi_document(ALL, partitions, replication, "../protos")
    _deliver({"asyncapi.yaml": text}, out, Output(json))


def _deliver(files: Mapping[str, str], out: Path | None, output: Output) -> None:
    """Writes the files below a directory, or prints them."""
    for name, text in files.items():
        if out is not None:
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            output.line(path)
            output.record({"path": str(path)})
            continue
        if len(files) > 1:
            output.line(f"# {name}")
        for line in text.splitlines():
            output.line(line)
        output.record({"name": name, "text": text})
