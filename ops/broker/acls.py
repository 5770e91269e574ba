"""`acls`: who may do what at the broker, from the registry of topics. Prints it, compares it, makes it so.

Touches the rights of our own principals alone, and never those of anybody else.
"""

from __future__ import annotations

from typing import Annotated

import typer

from eventlog.admin import acls
from eventlog.admin.acls import Grant
from ops.broker.topics import at_broker
from ops.errors import OpsError
from ops.printing import echo
from ops.security import cluster
from ops.where import Kafka, broker
from shared_kernel.topics import ALL, GROUP_PREFIX

app = typer.Typer(no_args_is_help=True, help="Who may read and write which topic at a broker.")

Redrive = Annotated[
    bool, typer.Option("--redrive", help="Also what it takes to put dead letters back, for as long as that takes.")
]
Provision = Annotated[
    bool,
    typer.Option("--provision", help="Also what it takes to make topics and commit offsets, while that is done."),
]
PRINCIPALS = sorted({one.principal for one in acls.grants(ALL, GROUP_PREFIX, redrive=True, provision=True)})


@app.command("print")
def print_(redrive: Redrive = False, provision: Provision = False) -> None:
    """All that is granted, as commands for Kafka's own kafka-acls.sh."""
    for line in acls.kafka_acls_commands(acls.grants(ALL, GROUP_PREFIX, redrive=redrive, provision=provision)):
        echo(line)


@app.command()
def check(kafka: Kafka = None, redrive: Redrive = False, provision: Provision = False) -> None:
    """Compares what the broker grants our principals with the registry. Exit 1 where they differ."""
    wanted, missing, surplus = _compared(broker(kafka), redrive, provision)
    if missing or surplus:
        lines = [f"missing  {one}" for one in missing] + [f"surplus  {one}" for one in surplus]
        raise OpsError("the rights are not what they should be, `groupbuy-ops acls apply` mends it:", lines=lines)
    echo(f"{len(wanted)} rights of {', '.join(PRINCIPALS)} are as they should be")


@app.command()
def apply(kafka: Kafka = None, redrive: Redrive = False, provision: Provision = False) -> None:
    """Grants what is missing, and takes away what our principals have beyond it."""
    address = broker(kafka)
    _, missing, surplus = _compared(address, redrive, provision)

    async def run() -> None:
        await acls.create_grants(cluster(address), missing)
        await acls.delete_grants(cluster(address), surplus)

    at_broker(address, run)
    echo(f"{len(missing)} rights granted, {len(surplus)} taken away")


def _compared(address: str, redrive: bool, provision: bool) -> tuple[list[Grant], list[Grant], list[Grant]]:
    """What is wanted, what of it is missing, and what is there beyond it."""
    wanted = acls.grants(ALL, GROUP_PREFIX, redrive=redrive, provision=provision)

    async def run() -> set[Grant]:
        return await acls.read_grants(cluster(address), PRINCIPALS)

    there = at_broker(address, run)
    return wanted, [one for one in wanted if one not in there], sorted(there - set(wanted))
