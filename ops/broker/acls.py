"""`acls`: prints, checks and applies the ACLs that the list of topics needs. Changes only those of our principals."""

from __future__ import annotations

from typing import Annotated

import typer
from aiokafka.errors import SecurityDisabled

from eventlog.admin import acls
from eventlog.admin.acls import Grant
from ops.broker.connection import at_broker
from ops.errors import OpsError, cannot_run
from ops.security import cluster
from ops.terminal.output import Json, Output
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
def print_(redrive: Redrive = False, provision: Provision = False, json: Json = False) -> None:
    """Prints the ACLs as commands for Kafka's kafka-acls.sh.

    Reads nothing: the ACLs follow from the list of topics.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run.

    Example: groupbuy-ops acls print
    """
    out = Output(json)
    for line in acls.kafka_acls_commands(acls.grants(ALL, GROUP_PREFIX, redrive=redrive, provision=provision)):
        out.line(line)
        out.record({"command": line})


@app.command()
def check(kafka: Kafka = None, redrive: Redrive = False, provision: Provision = False, json: Json = False) -> None:
    """Compares the broker's ACLs of the product's principals with those that the list of topics needs.

    Reads the broker's ACLs.

    Changes nothing.

    Exit codes: 0 the ACLs are correct, 1 they differ, 2 cannot run.

    Example: groupbuy-ops acls check
    """
    out = Output(json)
    wanted, missing, surplus = _compared(broker(kafka), redrive, provision)
    out.record({"wanted": len(wanted), "missing": [*map(str, missing)], "surplus": [*map(str, surplus)]})
    if missing or surplus:
        lines = [f"missing  {one}" for one in missing] + [f"surplus  {one}" for one in surplus]
        raise OpsError("the ACLs differ from the list of topics; run `groupbuy-ops acls apply`:", lines=lines)
    out.line(f"{len(wanted)} ACLs of {', '.join(PRINCIPALS)} are correct")


@app.command()
def apply(kafka: Kafka = None, redrive: Redrive = False, provision: Provision = False, json: Json = False) -> None:
    """Creates the missing ACLs of the product's principals and deletes their surplus ones.

    Reads the broker's ACLs.

    Changes the ACLs of the product's principals. Those of other principals stay.

    Exit codes: 0 done, 2 cannot run.

    Example: groupbuy-ops acls apply
    """
    address, out = broker(kafka), Output(json)
    _, missing, surplus = _compared(address, redrive, provision)

    async def run() -> None:
        await acls.create_grants(cluster(address), missing)
        await acls.delete_grants(cluster(address), surplus)

    at_broker(address, run, watched=False)
    out.line(f"{len(missing)} ACLs created, {len(surplus)} deleted")
    out.record({"created": [*map(str, missing)], "deleted": [*map(str, surplus)]})


def _compared(address: str, redrive: bool, provision: bool) -> tuple[list[Grant], list[Grant], list[Grant]]:
    """The wanted, the missing and the surplus ACLs."""
    wanted = acls.grants(ALL, GROUP_PREFIX, redrive=redrive, provision=provision)

    async def run() -> set[Grant]:
        try:
            return await acls.read_grants(cluster(address), PRINCIPALS)
        except SecurityDisabled:
            raise cannot_run(f"the broker at {address} has no authorizer: its ACLs are off") from None

    present = at_broker(address, run)
    return wanted, [one for one in wanted if one not in present], sorted(present - set(wanted))
