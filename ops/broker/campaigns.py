"""`campaigns`: repairs a campaign that a foreign record removed or replaced.

Services that have read the campaign before ignore such a record. A new process does not have it, and compaction deletes
the valid record before the foreign one. `restore` writes the last valid record again. It needs an administrator's
rights: only the groups service may write the topic.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from google.protobuf.message import DecodeError
from groupbuy.groups.v1.campaigns_pb2 import Campaign

from eventlog.broker.partition_reader import PartitionReader
from eventlog.core.partitioner import partition_of
from ops.broker.appending import appending
from ops.broker.connection import at_broker
from ops.broker.declared import declared_partitions
from ops.errors import CANNOT_RUN, DOES_NOT_HOLD, OpsError
from ops.log.rendering.describe import day_and_clock, one_line
from ops.security import cluster
from ops.terminal.output import Json, Output
from ops.where import Kafka, broker
from ops.who import who
from shared_kernel.campaign_table import mismatch
from shared_kernel.topics import CAMPAIGNS

#: Header of a restored record: the operator, and the offset of the valid record.
RESTORED = "groupbuy-restored"

app = typer.Typer(no_args_is_help=True, help="Restores campaigns that a foreign record replaced.")


@app.callback()
def _commands() -> None:
    """Keeps `restore` a subcommand: Typer would merge a single command into its group."""


@app.command()
def restore(
    campaign: Annotated[str, typer.Argument(help="campaigns/{campaign}")],
    kafka: Kafka = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the record without writing it.")] = False,
    json: Json = False,
) -> None:
    """Writes the last valid record of a campaign again if a foreign record follows it.

    Reads the topic of campaigns.

    Changes the topic of campaigns, except with --dry-run: one record. Needs an administrator's rights.

    Exit codes: 0 the last record is valid now, 1 only foreign records are left, 2 cannot run or no such campaign.

    Example: groupbuy-ops campaigns restore campaigns/mug --dry-run
    """
    address, key, out = broker(kafka), campaign.removeprefix("campaigns/"), Output(json)

    async def run() -> tuple[Any, list[str]]:
        number = await declared_partitions(cluster(address))
        valid, foreign = await _history(address, key, partition_of(key, number), number)
        if valid is not None and foreign and not dry_run:
            await _write(address, key, partition_of(key, number), valid)
        return valid, foreign

    valid, foreign = at_broker(address, run, watched=False)
    for one in foreign:
        out.line(f"foreign  {one}")
    out.record(
        {
            "campaign": f"campaigns/{key}",
            "foreign": foreign,
            "valid": None if valid is None else {"partition": valid.partition, "offset": valid.offset},
            "restored": valid is not None and bool(foreign) and not dry_run,
        }
    )
    if valid is None:
        raise OpsError(
            f"{CAMPAIGNS.name} has no valid record of campaigns/{key}: get the campaign from a running service "
            "(GetCampaign), and create it again with its id",
            DOES_NOT_HOLD if foreign else CANNOT_RUN,
        )
    content = one_line(_decoded(valid.value))
    out.line(f"valid    {valid.partition}:{valid.offset} {day_and_clock(valid.timestamp)} {content}")
    if not foreign:
        out.line("nothing to restore: the last record is valid")
    else:
        out.line("nothing written: this was a dry run" if dry_run else f"written again, as {who()}")


async def _history(address: str, key: str, right: int, number: int) -> tuple[Any, list[str]]:
    """The last valid record, and the later records of its key in any partition."""
    valid: Any = None
    foreign: list[str] = []
    async with PartitionReader.of_topic(cluster(address), CAMPAIGNS.name, number) as reading:
        async for tp, record in reading.all_records():
            if record.key != key.encode():
                continue
            why = _why_not(key, record.value)
            if not why and tp.partition == right:
                valid = record
                foreign = [one for one in foreign if not one.startswith(f"{right}:")]
            else:
                foreign.append(f"{tp.partition}:{record.offset} {why or 'it is in the wrong partition'}")
    return valid, foreign


def _why_not(key: str, value: bytes | None) -> str:
    if value is None:
        return "it removes the campaign"
    try:
        return mismatch(key, _decoded(value))
    except DecodeError as error:
        return f"it can't be decoded: {error}"


def _decoded(value: bytes) -> Campaign:
    found: Campaign = Campaign.FromString(value)
    return found


async def _write(address: str, key: str, partition: int, valid: Any) -> None:
    origin = f"{who()} after {valid.partition}:{valid.offset}".encode()
    headers = [(name, value or b"") for name, value in valid.headers if name != RESTORED] + [(RESTORED, origin)]
    async with appending(cluster(address)) as producer:
        await producer.send_and_wait(
            CAMPAIGNS.name, valid.value, key=key.encode(), partition=partition, headers=headers
        )
