"""`export`: generates files for other programs from the topics and the access policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from chassis.identity import policy as access_policy
from ops.broker.topics import PARTITIONS
from ops.errors import cannot_run
from ops.export.kubernetes_files import kubernetes_files
from ops.output import Json, Output

app = typer.Typer(no_args_is_help=True, help="Generates files for other programs from the topics and the policy.")

Out = Annotated[Path | None, typer.Option("--out", help="Directory to write the files to. Default: they are printed.")]
Partitions = Annotated[int, typer.Option("--partitions", min=1, max=10_000, help="Partitions per topic.")]
Replication = Annotated[int, typer.Option("--replication", min=1, max=10, help="Replication factor.")]


@app.command("k8s")
def k8s(
    out: Out = None,
    partitions: Partitions = PARTITIONS,
    replication: Replication = 3,
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
