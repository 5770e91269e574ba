"""Input records, parsed once at the edge of the domain: bytes in, named items out. Must never look at any state.

One record may hold several items, as a payment decision does. Items that a group has no interest in are dropped here.
What can't be decoded, or is of a kind that this build does not know, raises: an old binary must not guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from services.groups.domain.terms import DEFAULT_RULES_VERSION, RULES_VERSIONS, UnknownRules

#: Events of a purse that a group reacts to.
MONEY = frozenset({"hold_authorised", "hold_declined", "captured", "capture_declined", "payment_released"})
_MONEY_OR_UNKNOWN = MONEY | {None}


class UnknownInput(ValueError):
    """A kind of input that this build does not know. Deploy one that does: nothing may be skipped."""


@dataclass(slots=True)
class Item:
    """One thing to react to."""

    #: "opens" or "joins" for an order that was placed, else the name of the field that held it.
    kind: str
    #: Id of the order; empty where it is about the group.
    order: str
    #: The OrderFact, the body of the PaymentEvent, or the command.
    message: Any
    #: The campaign beside an order that opens a group; None: there is no such campaign.
    campaign: Campaign | None = None


@dataclass(slots=True)
class Command:
    """One input record."""

    items: list[Item]
    #: Rules that a group is decided by if this opens it.
    rules_version: int = DEFAULT_RULES_VERSION


def decode(value: bytes) -> Command:
    """A GroupInput. Raises DecodeError, UnknownInput and UnknownRules."""
    record = GroupInput.FromString(value)
    reader = _READERS.get(record.WhichOneof("body"))
    if reader is None:
        raise UnknownInput("a GroupInput without a body that is known here")
    return reader(record)


def _order_fact(record: GroupInput) -> Command:
    fact = OrderFact.FromString(record.order_fact)
    body = fact.WhichOneof("body")
    if body is None:
        raise UnknownInput("an OrderFact without a body that is known here")
    if body == "placed":
        placed = fact.placed
        if placed.opens_group or placed.solo:
            return _opening(record, fact)
        return Command([Item("joins", fact.order, fact)])
    return Command([Item(body, fact.order, fact)])


def _opening(record: GroupInput, fact: OrderFact) -> Command:
    """With the campaign, which the sequencer puts beside such an order and beside nothing else."""
    if not record.HasField("campaign"):
        return Command([Item("opens", fact.order, fact)])
    campaign = record.campaign
    rules_version = campaign.rules_version or DEFAULT_RULES_VERSION
    if rules_version not in RULES_VERSIONS:
        raise UnknownRules(f"rules_version {rules_version} of {campaign.name}")
    return Command([Item("opens", fact.order, fact, campaign)], rules_version)


def reacts_to(decision: PaymentDecision) -> bool:
    """Whether a group may react to any event of a decision. What this build does not know is for `decode` to raise."""
    for event in decision.events[:]:  # noqa: SIM110 - a generator around the loop takes longer than the loop
        if event.WhichOneof("body") in _MONEY_OR_UNKNOWN:
            return True
    return False


def _payment_decision(record: GroupInput) -> Command:
    items = []
    # A slice is a list: a repeated field has no iterator of its own, and tells its end by an error raised and caught.
    for event in PaymentDecision.FromString(record.payment_decision).events[:]:
        kind = event.WhichOneof("body")
        if kind in MONEY:
            message = getattr(event, kind)
            items.append(Item(kind, message.order, message))
        elif kind is None:
            raise UnknownInput("a PaymentEvent without a body that is known here")
    return Command(items)


def _cancel_group(record: GroupInput) -> Command:
    return Command([Item("cancel_group", "", record.cancel_group)])


def _tick(record: GroupInput) -> Command:
    return Command([])


def _order_rejected(record: GroupInput) -> Command:
    return Command([Item("order_rejected", record.order_rejected.order, record.order_rejected)])


_READERS: dict[str | None, Callable[[GroupInput], Command]] = {
    "order_fact": _order_fact,
    "payment_decision": _payment_decision,
    "cancel_group": _cancel_group,
    "tick": _tick,
    "order_rejected": _order_rejected,
}
