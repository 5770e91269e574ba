"""Parser of the group inbox: record bytes in, named items out. It reads no state.

A record can hold several items, for example a payment decision. Items that no rule of a group uses are dropped here.
A record that can't be decoded, or whose kind this build does not know, raises an error: an old build does not guess.
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

#: Payment events that a group reacts to.
MONEY = frozenset(
    {
        "hold_authorised",
        "hold_declined",
        "hold_lost",
        "captured",
        "capture_declined",
        "payment_released",
        "money_owed",
    }
)
_MONEY_OR_UNKNOWN = MONEY | {None}


class UnknownInput(ValueError):
    """An input of a kind that this build does not know. Deploy a newer build; inputs are not skipped."""


@dataclass(slots=True)
class Item:
    """One input of the rules."""

    #: "opens" or "joins" for a placed order, else the name of the proto field that held the message.
    kind: str
    #: Id of the order; empty if the item concerns the group.
    order: str
    #: The OrderFact, the body of the PaymentEvent, or the command.
    message: Any
    #: The campaign of an order that opens a group; None if there is no such campaign.
    campaign: Campaign | None = None
    #: Version of the decision of payments that holds the message; 0: it is of no such decision.
    payments_version: int = 0


@dataclass(slots=True)
class Command:
    """The items of one inbox record."""

    items: list[Item]
    #: Version of the rules that decide a group that this record opens.
    rules_version: int = DEFAULT_RULES_VERSION


def decode(value: bytes) -> Command:
    """Parses a GroupInput. Raises DecodeError, UnknownInput and UnknownRules."""
    record = GroupInput.FromString(value)
    reader = _READERS.get(record.WhichOneof("body"))
    if reader is None:
        raise UnknownInput("the GroupInput has no body that this build knows")
    return reader(record)


def _order_fact(record: GroupInput) -> Command:
    fact = OrderFact.FromString(record.order_fact)
    body = fact.WhichOneof("body")
    if body is None:
        raise UnknownInput("the OrderFact has no body that this build knows")
    if body == "placed":
        placed = fact.placed
        if placed.opens_group or placed.solo:
            return _opening(record, fact)
        return Command([Item("joins", fact.order, fact)])
    return Command([Item(body, fact.order, fact)])


def _opening(record: GroupInput, fact: OrderFact) -> Command:
    """An order that opens a group, with the campaign that the sequencer adds to such orders only."""
    if not record.HasField("campaign"):
        return Command([Item("opens", fact.order, fact)])
    campaign = record.campaign
    rules_version = campaign.rules_version or DEFAULT_RULES_VERSION
    if rules_version not in RULES_VERSIONS:
        raise UnknownRules(f"rules_version {rules_version} of {campaign.name}")
    return Command([Item("opens", fact.order, fact, campaign)], rules_version)


def reacts_to(decision: PaymentDecision) -> bool:
    """Whether a group can react to an event of the decision. True for unknown events, so that `decode` raises."""
    for event in decision.events[:]:  # noqa: SIM110 - a generator takes longer than the loop
        if event.WhichOneof("body") in _MONEY_OR_UNKNOWN:
            return True
    return False


def _payment_decision(record: GroupInput) -> Command:
    items = []
    decision = PaymentDecision.FromString(record.payment_decision)
    # The slice is a list. Iterating the repeated field itself ends with an exception, which is slower.
    for event in decision.events[:]:
        kind = event.WhichOneof("body")
        if kind in MONEY:
            message = getattr(event, kind)
            items.append(Item(kind, message.order, message, payments_version=decision.version))
        elif kind is None:
            raise UnknownInput("the PaymentEvent has no body that this build knows")
    return Command(items)


def _cancel_group(record: GroupInput) -> Command:
    return Command([Item("cancel_group", "", record.cancel_group)])


def _tick(record: GroupInput) -> Command:
    return Command([])


def _order_rejected(record: GroupInput) -> Command:
    return Command([Item("order_rejected", record.order_rejected.order, record.order_rejected)])


def _stock_answer(record: GroupInput) -> Command:
    return Command([Item("stock_answer", "", record.stock_answer)])


def _admission_answer(record: GroupInput) -> Command:
    return Command([Item("admission_answer", record.admission_answer.order, record.admission_answer)])


_READERS: dict[str | None, Callable[[GroupInput], Command]] = {
    "order_fact": _order_fact,
    "payment_decision": _payment_decision,
    "cancel_group": _cancel_group,
    "tick": _tick,
    "order_rejected": _order_rejected,
    "stock_answer": _stock_answer,
    "admission_answer": _admission_answer,
}
