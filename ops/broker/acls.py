"""`acls`: prints, checks and applies the ACLs that the list of topics needs. Changes only those of our principals."""

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

app = typer.Typer(no_args_is_help=True, help="Prints, checks and applies the ACLs of the product's principals.")

Redrive = Annotated[
    bool, typer.Option("--redrive", help="Include the rights to redrive dead letters. Revoke them afterwards.")
]
Provision = Annotated[
    bool,
    typer.Option("--provision", help="Include the rights to create topics and commit offsets. Revoke them afterwards."),
]
PRINCIPALS = sorted({one.principal for one in acls.grants(ALL, GROUP_PREFIX, redrive=True, provision=True)})


@app.command("print")
def print_(redrive: Redrive = False, provision: Provision = False) -> None:
    """Prints the ACLs as commands for Kafka's kafka-acls.sh."""
    for line in acls.kafka_acls_commands(acls.grants(ALL, GROUP_PREFIX, redrive=redrive, provision=provision)):
        echo(line)


@app.command()
def check(kafka: Kafka = None, redrive: Redrive = False, provision: Provision = False) -> None:
    """Compares the broker's ACLs of our principals with the wanted ones. Exits with 1 if they differ."""
    wanted, missing, surplus = _compared(broker(kafka), redrive, provision)
    if missing or surplus:
        lines = [f"missing  {one}" for one in missing] + [f"surplus  {one}" for one in surplus]
        raise OpsError("the ACLs differ from the wanted ones, `groupbuy-ops acls apply` repairs them:", lines=lines)
    echo(f"{len(wanted)} ACLs of {', '.join(PRINCIPALS)} are correct")


@app.command()
def apply(kafka: Kafka = None, redrive: Redrive = False, provision: Provision = False) -> None:
    """Creates the missing ACLs of our principals and deletes their surplus ones."""
    address = broker(kafka)
    _, missing, surplus = _compared(address, redrive, provision)

    async def run() -> None:
        await acls.create_grants(cluster(address), missing)
        await acls.delete_grants(cluster(address), surplus)

    at_broker(address, run)
    echo(f"{len(missing)} ACLs created, {len(surplus)} deleted")


def _compared(address: str, redrive: bool, provision: bool) -> tuple[list[Grant], list[Grant], list[Grant]]:
    """The wanted, the missing and the surplus ACLs."""
    wanted = acls.grants(ALL, GROUP_PREFIX, redrive=redrive, provision=provision)

    async def run() -> set[Grant]:
        return await acls.read_grants(cluster(address), PRINCIPALS)

    present = at_broker(address, run)
    return wanted, [one for one in wanted if one not in present], sorted(present - set(wanted))
