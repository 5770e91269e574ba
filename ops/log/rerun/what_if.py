"""`what-if`: replays the groups with changed terms or rules and compares the outcomes.

Writes nothing. simulated.py has the assumptions about shoppers and payments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, ClosePolicy, Tier
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.inventory.v1.decisions_pb2 import StockDecision

from ops.audit.findings import Findings
from ops.audit.stock.folds import InMemoryFolds
from ops.broker.connection import at_broker
from ops.errors import cannot_run
from ops.log.reader import Reader, skips
from ops.log.rerun.compared import Compared, figures, show
from ops.log.rerun.sale import UNKNOWN_TOTAL, Sale
from ops.log.rerun.simulated import Actual, Change, Simulated
from ops.terminal.output import Json, Output
from ops.where import Kafka, broker
from services.groups.domain.terms import RULES_VERSIONS, SUPPLY_RULES_VERSION, problems
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG, STOCK_LOG

#: The stock item of `--stock`.
STOCK = "what-if"


class WhatIf:
    """The simulation of one partition. Takes batches of records, first those of the log."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._actual: dict[str, Actual] = {}
        self._first_cause: dict[str, int] = {}
        self._inputs: dict[str, list[tuple[int, int, bytes]]] = {}
        self._end_ms = 0

    def take(self, topic: str, records: Iterable[Any]) -> None:
        """Takes records of the log or the inbox."""
        (self._take_log if topic == GROUP_LOG.name else self._take_inbox)(records)

    def _take_log(self, records: Iterable[Any]) -> None:
        for record in records:
            decision = GroupDecision.FromString(record.value)
            self._first_cause.setdefault(decision.group, decision.cause)
            self._actual.setdefault(decision.group, Actual()).take(decision)

    def _take_inbox(self, records: Iterable[Any]) -> None:
        for record in records:
            self._end_ms = max(self._end_ms, record.timestamp)
            self._inputs.setdefault(record.key.decode(), []).append((record.offset, record.timestamp, record.value))

    def add_to(self, sale: Sale, found: Compared, inbox_begins_at: int = 0) -> int:
        """Adds all groups to a simulation of the whole sale, except those whose first input is no longer in the inbox.
        Returns the time of the last input."""
        gone = {key for key, cause in self._first_cause.items() if cause < inbox_begins_at}
        found.left_out += len(gone)
        for key, inputs in self._inputs.items():
            if key not in gone:
                sale.add(key, self._actual.setdefault(key, Actual()), inputs)
        return self._end_ms

    @property
    def actual(self) -> Mapping[str, Actual]:
        """The groups by their decision log."""
        return self._actual

    def finish(self, found: Compared, inbox_begins_at: int = 0) -> None:
        """Simulates all groups, except those whose first input is no longer in the inbox."""
        gone = {key for key, cause in self._first_cause.items() if cause < inbox_begins_at}
        found.left_out += len(gone)
        for key, inputs in self._inputs.items():
            if key not in gone:
                self._simulate(key, inputs, found)

    def _simulate(self, key: str, inputs: list[tuple[int, int, bytes]], found: Compared) -> None:
        actual = self._actual.get(key) or Actual()
        simulated = Simulated(key, actual, self._change)
        messages = [(offset, at_ms, GroupInput.FromString(value)) for offset, at_ms, value in inputs]
        for offset, _, message in messages:
            simulated.add_results(offset, message)
        for offset, at_ms, message in messages:
            simulated.take(offset, at_ms, message)
        simulated.finish(self._end_ms)
        found.compare(actual, simulated)


def changing(campaign: str, tiers: list[Tier], rules_version: int, fields: dict[str, Any]) -> Change:
    """A change of the terms of one campaign, or of all. The change raises OpsError if it makes the terms invalid."""

    def change(offer: Campaign) -> Campaign:
        if campaign and _id(offer.name) != _id(campaign):
            return offer
        changed = Campaign()
        changed.CopyFrom(offer)
        if tiers:
            del changed.tiers[:]
            changed.tiers.extend(tiers)
        for name, value in fields.items():
            if isinstance(value, Duration):
                getattr(changed, name).CopyFrom(value)
            else:
                _set(changed, name, value)
        if rules_version:
            _set(changed, "rules_version", rules_version)
        wrong = [] if problems(offer) else problems(changed)
        if wrong:
            raise cannot_run(f"invalid terms for {offer.name}: {wrong[0].field}: {wrong[0].message}")
        return changed

    return change


def _id(campaign: str) -> str:
    return campaign.removeprefix("campaigns/")


def _set(terms: Campaign, name: str, value: Any) -> None:
    try:
        setattr(terms, name, value)
    except ValueError as error:
        raise cannot_run(f"invalid terms: {name}: {value} is out of range") from error


def _tier(text: str) -> Tier:
    members, _, price = text.partition(":")
    wrong = cannot_run(f"{text!r} is not a tier: --tier takes members:price in minor units, such as 5:7900")
    if not members.isdecimal() or not price.isdecimal():
        raise wrong
    try:
        return Tier(members=int(members), unit_price_minor=int(price))
    except ValueError as error:  # a number that the field cannot have
        raise wrong from error


def what_if(
    kafka: Kafka = None,
    campaign: Annotated[str, typer.Option(help="Change only this campaign. Default: all.")] = "",
    tier: Annotated[
        list[str] | None,
        typer.Option(help="members:price in minor units. Repeatable; replaces all tiers."),
    ] = None,
    solo_price: Annotated[int | None, typer.Option(min=1, help="Price in minor units.")] = None,
    capacity: Annotated[int | None, typer.Option(min=1, help="Seats of a group.")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="Seconds from a group's opening to its deadline.")] = None,
    hold_window: Annotated[int | None, typer.Option(min=1, help="Seconds for the payment of a seat.")] = None,
    at_deadline: Annotated[bool | None, typer.Option("--at-deadline/--when-full", help="When a group closes.")] = None,
    waitlist: Annotated[
        bool | None, typer.Option("--waitlist/--no-waitlist", help="A waitlist for full groups.")
    ] = None,
    house_fill: Annotated[
        int | None, typer.Option(min=0, help="Members for virtual completion at the first tier; 0: none.")
    ] = None,
    leader_discount: Annotated[int | None, typer.Option(min=0, help="Discount per piece, in minor units.")] = None,
    stock: Annotated[
        int | None, typer.Option(min=0, help="Pieces that the changed campaigns share. Default: as it was.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="Pieces of one customer over all groups of a campaign; 0: no limit.")
    ] = None,
    rules_version: Annotated[int, typer.Option(min=0, help="Version of the rules; 0: that of each campaign.")] = 0,
    failed_captures: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of captures that fail, such as 0.02: adds the expected cost."),
    ] = None,
    json: Json = False,
) -> None:
    """Replays the groups with changed terms or rules and compares the outcomes.

    Orders and cancellations keep their times. With --stock, with --limit, or if there are stock items, all groups are
    decided in one sequence, because they share pieces: all inputs are in memory then. The last line is one JSON object.

    The price of a completed group stays when captures fail, at the merchant's cost. With --failed-captures, the last
    rows are the cost to expect if each capture of the completed groups fails with that chance.

    Reads the groups' inbox and decision log, and the decision log of the stock items.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run, the terms are invalid, or no group is of this campaign.

    Example: groupbuy-ops what-if --campaign campaigns/mug --tier 2:8500 --tier 5:7900
    """
    out = Output(json)
    if rules_version and rules_version not in RULES_VERSIONS:
        known = ", ".join(map(str, sorted(RULES_VERSIONS)))
        raise cannot_run(f"--rules-version {rules_version} is unknown; known are {known}")
    policy = None
    if at_deadline is not None:
        policy = ClosePolicy.CLOSE_POLICY_AT_DEADLINE if at_deadline else ClosePolicy.CLOSE_POLICY_WHEN_FULL
    fields: dict[str, Any] = {
        "solo_price_minor": solo_price,
        "capacity": capacity,
        "window": None if window is None else Duration(seconds=window),
        "hold_window": None if hold_window is None else Duration(seconds=hold_window),
        "close_policy": policy,
        "waitlist": waitlist,
        "house_fill_members": house_fill,
        "leader_discount_minor": leader_discount,
        "stock": None if stock is None else f"stocks/{STOCK}",
        "limit_per_customer": limit,
    }
    if rules_version == 0 and (stock is not None or limit):
        rules_version = SUPPLY_RULES_VERSION
    changes = {name: value for name, value in fields.items() if value is not None}
    change = changing(campaign, [_tier(one) for one in tier or ()], rules_version, changes)
    address = broker(kafka)
    seen: set[str] = set()

    def noted(offer: Campaign) -> Campaign:
        seen.add(_id(offer.name))
        return change(offer)

    shared = stock is not None or bool(limit)
    found = Compared(failed_captures=failed_captures)
    compared = at_broker(address, lambda: _compare(address, noted, stock, found, shared=shared))
    if campaign and _id(campaign) not in seen and not compared.left_out:
        raise cannot_run(f"campaign not found: the topics at {address} have no group of campaigns/{_id(campaign)}")
    if not compared.groups:
        out.note("no groups in the inbox")
    show(out, compared)
    out.figures(figures(compared))


async def _compare(kafka: str, change: Change, stock: int | None, whole: Compared, *, shared: bool) -> Compared:
    """Simulates one partition at a time, so that only its inbox is in memory; with stock items, all at once. Adds to
    `whole`, and returns it."""
    totals = await _totals(kafka)
    if shared or totals:
        return await _compare_sale(kafka, change, totals if stock is None else totals | {STOCK: stock}, whole)
    async with Reader(kafka, [GROUP_INBOX.name]) as reader:
        partitions = reader.partitions(GROUP_INBOX.name)
    skipped = await skips(kafka)
    for partition in range(partitions):
        played = WhatIf(change)
        async with Reader(kafka, [GROUP_LOG.name], {partition}, skipped=skipped) as reader:
            await reader.read_to_end(played.take)
        async with Reader(kafka, [GROUP_INBOX.name], {partition}, skipped=skipped) as reader:
            begins = (await reader.beginnings())[GROUP_INBOX.name, partition]
            await reader.read_to_end(played.take)
        played.finish(whole, begins)
    return whole


async def _totals(kafka: str) -> dict[str, int]:
    """The pieces of each stock item in the log."""
    folds = InMemoryFolds(Findings())

    def take(_topic: str, records: Iterable[Any]) -> None:
        for record in records:
            decision = StockDecision.FromString(record.value)
            folds.stock(decision.stock).take(record.value, decision, log_trimmed=False)

    async with Reader(kafka, [STOCK_LOG.name], skipped=await skips(kafka)) as reader:
        await reader.read_to_end(take)
    return {key: fold.books.total for key, fold in folds.stocks.items() if fold.books.created}


async def _compare_sale(kafka: str, change: Change, totals: Mapping[str, int], found: Compared) -> Compared:
    """Simulates all groups in one sequence."""
    sale = Sale(change, lambda key: totals.get(key, UNKNOWN_TOTAL))
    played: dict[int, WhatIf] = {}

    def take(topic: str, records: Sequence[Any]) -> None:
        played.setdefault(records[0].partition, WhatIf(change)).take(topic, records)

    skipped = await skips(kafka)
    async with Reader(kafka, [GROUP_LOG.name], skipped=skipped) as reader:
        await reader.read_to_end(take)
    async with Reader(kafka, [GROUP_INBOX.name], skipped=skipped) as reader:
        begins = await reader.beginnings()
        await reader.read_to_end(take)
    ends = [one.add_to(sale, found, begins[GROUP_INBOX.name, partition]) for partition, one in played.items()]
    actual = {key: group for one in played.values() for key, group in one.actual.items()}
    for key, simulated in sale.run(max(ends, default=0)).items():
        found.compare(actual[key], simulated)
    found.free = sale.inventory.free
    return found
