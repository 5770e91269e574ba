"""One-line descriptions of records, for a failing history. Undecodable records are described as such."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, RefusalReason, ReleaseReason
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.inventory.v1.decisions_pb2 import AllowanceDecision, StockDecision
from groupbuy.inventory.v1.inbox_pb2 import AllowanceInput, StockInput
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from shared_kernel import topics
from tests.simulation.world.broker import Record

REASONS = {"seat_refused": RefusalReason, "seat_released": ReleaseReason, "release_requested": ReleaseReason}


def describe(record: Record) -> str:
    """Time, group and content of a record."""
    group = (record.key or b"").decode()[:4]
    describer = _DESCRIBERS.get(record.topic)
    try:
        content = describer(record.value or b"") if describer is not None else ""
    except DecodeError:
        content = "undecodable"
    return f"t={record.timestamp % 10**8} g:{group} {content}"


def _campaign(value: bytes) -> str:
    campaign = Campaign.FromString(value)
    tiers = " ".join(f"{tier.members}:{tier.unit_price_minor}" for tier in campaign.tiers)
    return f"{campaign.name} {tiers} of {campaign.capacity}"


def _fact(value: bytes) -> str:
    fact = OrderFact.FromString(value)
    if fact.HasField("placed"):
        placed = fact.placed
        how = "opens" if placed.opens_group else "joins"
        return f"{fact.order[:6]} {fact.customer} {how} for {placed.quantity} by {placed.payment_method}"
    return f"{fact.order[:6]} {fact.WhichOneof('body')}"


def _group_input(value: bytes) -> str:
    message = GroupInput.FromString(value)
    body = message.WhichOneof("body")
    if body == "order_fact":
        return _fact(message.order_fact)
    if body == "payment_decision":
        return f"payments {'(forged) ' if not message.source.topic else ''}" + _payment(message.payment_decision)
    return str(body)


def _payment_input(value: bytes) -> str:
    message = PaymentInput.FromString(value)
    body = message.WhichOneof("body")
    if body == "group_decision":
        return "group " + _group(message.group_decision)
    if body == "outcome":
        outcome = message.outcome
        operation = Operation.Name(outcome.operation).removeprefix("OPERATION_").lower()
        return f"{outcome.order[:6]} {operation} {outcome.attempt} -> {outcome.WhichOneof('result')}"
    return str(body)


def _group(value: bytes) -> str:
    decision = GroupDecision.FromString(value)
    return f"v{decision.version} " + ", ".join(_events(decision.events))


def _payment(value: bytes) -> str:
    decision = PaymentDecision.FromString(value)
    return f"v{decision.version} " + ", ".join(_events(decision.events))


def _events(events: Iterable[Any]) -> Iterable[str]:
    for event in events:
        kind = event.WhichOneof("body")
        body = getattr(event, kind)
        call = getattr(body, "call", body)
        words = [kind, str(getattr(call, "order", ""))[:6]]
        if kind in REASONS:
            words.append(REASONS[kind].Name(body.reason).split("REASON_")[1])
        amount = next(
            (getattr(call, name) for name in ("amount_minor", "hold_amount_minor") if hasattr(call, name)), ""
        )
        yield " ".join(word for word in (*words, str(amount)) if word)


def _stock_input(value: bytes) -> str:
    message = StockInput.FromString(value)
    body = str(message.WhichOneof("body"))
    if body != "group_units":
        return body
    units = message.group_units
    asked = f"asks for {units.at_least}" if units.at_least else ""
    back = f"{units.returned} back, {units.sold} sold{', closed' if units.closed else ''}"
    return f"{units.group[:4]} {asked or back}"


def _allowance_input(value: bytes) -> str:
    asked = AllowanceInput.FromString(value).group_allowance
    orders = [f"asks {one.order[:6]} {one.quantity}" for one in asked.requested]
    return f"{asked.group[:4]} " + ", ".join([*orders, *(f"returns {order[:6]}" for order in asked.returned)])


def _stock(value: bytes) -> str:
    decision = StockDecision.FromString(value)
    return f"v{decision.version} " + ", ".join(_pieces(decision.events))


def _allowance(value: bytes) -> str:
    decision = AllowanceDecision.FromString(value)
    return f"v{decision.version} " + ", ".join(_events(decision.events))


def _pieces(events: Iterable[Any]) -> Iterable[str]:
    for event in events:
        kind = event.WhichOneof("body")
        body = getattr(event, kind)
        yield " ".join(str(part) for part in (kind, getattr(body, "group", "")[:4], getattr(body, "units", "")) if part)


_DESCRIBERS = {
    topics.STOCK_INBOX.name: _stock_input,
    topics.STOCK_LOG.name: _stock,
    topics.ALLOWANCE_INBOX.name: _allowance_input,
    topics.ALLOWANCE_LOG.name: _allowance,
    topics.CAMPAIGNS.name: _campaign,
    topics.ORDERS.name: _fact,
    topics.GROUP_INBOX.name: _group_input,
    topics.PAYMENT_INBOX.name: _payment_input,
    topics.GROUP_LOG.name: _group,
    topics.PAYMENT_LOG.name: _payment,
}
