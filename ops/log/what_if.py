"""`what-if`: replays the groups under changed terms or rules, and says what would have been different.

Nothing is written and no topic is touched. What is supposed of shoppers and their money stands in supposed.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, ClosePolicy, Tier
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from rich.table import Table

from ops.amounts import amount
from ops.console import console
from ops.errors import USAGE, OpsError
from ops.log.reader import Reader, skips
from ops.log.simulated import Actual, Change, Outcome, Simulated
from ops.printing import as_json, echo
from ops.where import Kafka, broker
from services.groups.domain.terms import RULES_VERSIONS, problems
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG

_ROWS = (
    ("groups opened", "opened"),
    ("groups completed", "completed"),
    ("groups expired", "expired"),
    ("groups cancelled", "cancelled"),
    ("orders refused", "refused"),
    ("members charged", "settled"),
    ("members let go", "let_go"),
)


@dataclass(slots=True)
class Compared:
    """What was, and what would have been."""

    was: Outcome = field(default_factory=Outcome)
    would_be: Outcome = field(default_factory=Outcome)
    groups: int = 0
    #: Groups that end otherwise, or charge another sum.
    different: int = 0
    #: Orders that are only taken to have paid.
    assumed: int = 0
    #: Groups whose first input is no longer kept.
    left_out: int = 0


class WhatIf:
    """One partition: its log first, then its inbox, in any number of portions."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._real: dict[str, Actual] = {}
        self._first_cause: dict[str, int] = {}
        self._inputs: dict[str, list[tuple[int, int, bytes]]] = {}
        self._end_ms = 0

    def take(self, topic: str, records: Iterable[Any]) -> None:
        """Takes records of either."""
        (self._take_log if topic == GROUP_LOG.name else self._take_inbox)(records)

    def _take_log(self, records: Iterable[Any]) -> None:
        for record in records:
            decision = GroupDecision.FromString(record.value)
            self._first_cause.setdefault(decision.group, decision.cause)
            self._real.setdefault(decision.group, Actual()).take(decision)

    def _take_inbox(self, records: Iterable[Any]) -> None:
        for record in records:
            self._end_ms = max(self._end_ms, record.timestamp)
            self._inputs.setdefault(record.key.decode(), []).append((record.offset, record.timestamp, record.value))

    def finish(self, found: Compared, inbox_begins_at: int = 0) -> None:
        """Decides all groups anew. Those that began before the first input that is kept are left out."""
        gone = {key for key, cause in self._first_cause.items() if cause < inbox_begins_at}
        found.left_out += len(gone)
        for key, inputs in self._inputs.items():
            if key not in gone:
                self._one(key, inputs, found)

    def _one(self, key: str, inputs: list[tuple[int, int, bytes]], found: Compared) -> None:
        real = self._real.get(key) or Actual()
        supposed = Simulated(key, real, self._change)
        messages = [(offset, at_ms, GroupInput.FromString(value)) for offset, at_ms, value in inputs]
        for offset, _, message in messages:
            supposed.simulate(offset, message)
        for offset, at_ms, message in messages:
            supposed.take(offset, at_ms, message)
        supposed.finish(self._end_ms)
        found.groups += 1
        found.different += supposed.outcome != real.outcome
        found.assumed += supposed.assumed
        found.was.add(real.outcome)
        found.would_be.add(supposed.outcome)


def changing(campaign: str, tiers: list[Tier], rules_version: int, fields: dict[str, Any]) -> Change:
    """A change of one campaign's terms, or of all. What does not make sense as terms raises OpsError when it is met."""

    def change(offer: Campaign) -> Campaign:
        if campaign and offer.name.removeprefix("campaigns/") != campaign.removeprefix("campaigns/"):
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
                setattr(changed, name, value)
        if rules_version:
            changed.rules_version = rules_version
        wrong = [] if problems(offer) else problems(changed)
        if wrong:
            raise OpsError(f"{offer.name} can't be so: {wrong[0].field}: {wrong[0].message}", USAGE)
        return changed

    return change


def _tier(text: str) -> Tier:
    members, _, price = text.partition(":")
    if not members.isdigit() or not price.isdigit():
        raise OpsError(f"{text!r} is no tier: --tier takes members:price in minor units, as 5:7900", USAGE)
    return Tier(members=int(members), unit_price_minor=int(price))


def what_if(
    kafka: Kafka = None,
    campaign: Annotated[str, typer.Option(help="Of this campaign alone; else of all.")] = "",
    tier: Annotated[
        list[str] | None, typer.Option(help="members:price in minor units; several make the whole ladder anew.")
    ] = None,
    solo_price: Annotated[int | None, typer.Option(min=1, help="In minor units.")] = None,
    capacity: Annotated[int | None, typer.Option(min=1)] = None,
    window: Annotated[int | None, typer.Option(min=1, help="Seconds from a group's opening to its deadline.")] = None,
    hold_window: Annotated[int | None, typer.Option(min=1, help="Seconds in which a seat must be paid.")] = None,
    at_deadline: Annotated[bool | None, typer.Option("--at-deadline/--when-full", help="When a group closes.")] = None,
    waitlist: Annotated[bool | None, typer.Option("--waitlist/--no-waitlist")] = None,
    house_fill: Annotated[
        int | None, typer.Option(min=0, help="Members from which a short group completes at the first tier.")
    ] = None,
    leader_discount: Annotated[int | None, typer.Option(min=0, help="In minor units a piece.")] = None,
    rules_version: Annotated[int, typer.Option(min=0, help="Rules to decide by; 0: each campaign's own.")] = 0,
) -> None:
    """Replays the groups under changed terms or rules; says what would have been different.

    Shoppers do what they did, when they did it. The last line is one JSON object.
    """
    if rules_version and rules_version not in RULES_VERSIONS:
        known = ", ".join(map(str, sorted(RULES_VERSIONS)))
        raise OpsError(f"--rules-version {rules_version} is not known here; known: {known}", USAGE)
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
    }
    said = {name: value for name, value in fields.items() if value is not None}
    change = changing(campaign, [_tier(one) for one in tier or ()], rules_version, said)
    compared = asyncio.run(_compare(broker(kafka), change))
    _print(compared)
    figures = {
        "groups": compared.groups,
        "different": compared.different,
        "assumed_to_pay": compared.assumed,
        "left_out": compared.left_out,
        "was": _figures(compared.was),
        "would_be": _figures(compared.would_be),
    }
    echo(as_json(figures))


async def _compare(kafka: str, change: Change) -> Compared:
    """A partition at a time, so that no more of the inbox than that is in memory."""
    async with Reader(kafka, [GROUP_INBOX.name]) as reader:
        partitions = reader.partitions(GROUP_INBOX.name)
    whole = Compared()
    passed_over = await skips(kafka)
    for partition in range(partitions):
        played = WhatIf(change)
        async with Reader(kafka, [GROUP_LOG.name], {partition}, passed_over=passed_over) as reader:
            await reader.read_to_end(played.take)
        async with Reader(kafka, [GROUP_INBOX.name], {partition}, passed_over=passed_over) as reader:
            begins = (await reader.beginnings())[GROUP_INBOX.name, partition]
            await reader.read_to_end(played.take)
        played.finish(whole, begins)
    return whole


def _figures(outcome: Outcome) -> dict[str, Any]:
    figures: dict[str, Any] = {name: getattr(outcome, name) for _, name in _ROWS}
    return figures | {"captured_minor": dict(sorted(outcome.captured.items()))}


def _print(compared: Compared) -> None:
    out = console()
    table = Table(title=f"What if, over {compared.groups:,} groups", title_justify="left")
    for column in ("", "was", "would be", "difference"):
        table.add_column(column, justify="right" if column else "left")
    was, would_be = compared.was, compared.would_be
    for title, name in _ROWS:
        before, after = getattr(was, name), getattr(would_be, name)
        table.add_row(title, f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else "")
    for currency in sorted({*was.captured, *would_be.captured}):
        before, after = was.captured[currency], would_be.captured[currency]
        difference = ("+" if after > before else "") + amount(after - before, currency) if after != before else ""
        table.add_row(f"captured, {currency}", amount(before, currency), amount(after, currency), difference)
    out.print(table)
    out.print(f"{compared.different:,} groups would have ended otherwise.", highlight=False)
    if compared.assumed:
        out.print(
            f"{compared.assumed:,} orders were turned away and now have a seat: they are taken to pay.", highlight=False
        )
    if compared.left_out:
        out.print(f"{compared.left_out:,} groups are left out: their first inputs are no longer kept.", highlight=False)
