"""Builders of the inputs of groups and of payments: facts, decisions of the other service, ticks, provider results."""

from __future__ import annotations

from typing import Any

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1 import inbox_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentDecision, PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome, RefundCommand

# Inputs of a group --------------------------------------------------------------------------------------------------


def order_fact(fact: OrderFact, campaign: Campaign | None = None) -> GroupInput:
    """The copy of a fact, with the campaign if the order opens the group."""
    return GroupInput(order_fact=fact.SerializeToString(), campaign=campaign)


def payments_decided(group: str, *events: PaymentEvent, version: int = 0) -> GroupInput:
    """The copy of a decision of payments."""
    decision = PaymentDecision(group=group, version=version, events=events)
    return GroupInput(payment_decision=decision.SerializeToString())


# Inputs of a group's payments ---------------------------------------------------------------------------------------


def group_decided(group: str, *events: GroupEvent, version: int = 1) -> PaymentInput:
    """The copy of a decision of the group."""
    decision = GroupDecision(group=group, version=version, events=events)
    return PaymentInput(group_decision=decision.SerializeToString())


def refund_command(order: str, refund: str, amount_minor: int = 0, **fields: Any) -> PaymentInput:
    """A merchant's refund; an amount of 0 refunds all that is left."""
    return PaymentInput(refund=RefundCommand(order=order, refund=refund, amount_minor=amount_minor, **fields))


def provider_result(order: str, operation: Operation.ValueType, attempt: int = 1, **result: Any) -> PaymentInput:
    """The result of a call: one of the bodies below."""
    return PaymentInput(outcome=ProviderOutcome(order=order, operation=operation, attempt=attempt, **result))


def authorised(hold: str, amount_minor: int, until_ms: int, currency: str = "CNY") -> dict[str, Any]:
    return {
        "authorised": pb.OutcomeAuthorised(
            hold=hold, amount_minor=amount_minor, currency=currency, capturable_until_ms=until_ms
        )
    }


def action_required(hold: str, url: str) -> dict[str, Any]:
    return {"action_required": pb.OutcomeActionRequired(action_url=url, hold=hold)}


def declined(reason: str) -> dict[str, Any]:
    return {"declined": pb.OutcomeDeclined(reason=reason)}


def captured(hold: str, amount_minor: int) -> dict[str, Any]:
    return {"captured": pb.OutcomeCaptured(hold=hold, amount_minor=amount_minor)}


def voided(hold: str) -> dict[str, Any]:
    return {"voided": pb.OutcomeVoided(hold=hold)}


def refunded(hold: str, amount_minor: int = 0) -> dict[str, Any]:
    return {"refunded": pb.OutcomeRefunded(hold=hold, amount_minor=amount_minor)}


def absent() -> dict[str, Any]:
    return {"absent": pb.OutcomeAbsent()}


def hold_gone(hold: str) -> dict[str, Any]:
    return {"hold_gone": pb.OutcomeHoldGone(hold=hold)}


def retry_later(error: str = "timeout", after_ms: int = 0) -> dict[str, Any]:
    return {"retry_later": pb.OutcomeRetryLater(error=error, after_ms=after_ms)}
