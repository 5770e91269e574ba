"""Decodes an input and dispatches it to the rules. Yields events; the kernel applies each before the next is decided.

Deciding reads the state, the input and the log's time, and changes none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome, RefundCommand

from services.payments.domain.errors import UnknownInput
from services.payments.domain.model import COUNTERS, GroupPayments
from services.payments.domain.on_group_event import on_group_decision
from services.payments.domain.on_provider_result import on_provider_result
from services.payments.domain.on_refund_command import on_refund_command
from services.payments.domain.on_timer import retry_due_calls

Input: TypeAlias = GroupDecision | ProviderOutcome | RefundCommand | Tick


def decode(value: bytes) -> Input:
    """The content of a PaymentInput, parsed once. Raises DecodeError and UnknownInput."""
    record = PaymentInput.FromString(value)
    match record.WhichOneof("body"):
        case "group_decision":
            return _group_decision(record.group_decision)
        case "outcome":
            return _provider_result(record.outcome)
        case "refund":
            return record.refund
        case "tick":
            return record.tick
    raise UnknownInput("a PaymentInput without a body that this build knows")


def _group_decision(value: bytes) -> GroupDecision:
    decision = GroupDecision.FromString(value)
    for event in decision.events:
        if event.WhichOneof("body") is None:
            raise UnknownInput(f"version {decision.version} of group {decision.group} holds an unknown event")
    return decision


def _provider_result(outcome: ProviderOutcome) -> ProviderOutcome:
    if outcome.WhichOneof("result") is None:
        raise UnknownInput(f"order {outcome.order}: an outcome without a result that this build knows")
    if outcome.operation not in COUNTERS:
        raise UnknownInput(f"order {outcome.order}: an outcome of unknown operation {outcome.operation}")
    return outcome


def decide(payments: GroupPayments, command: Input, at_ms: int) -> Iterator[PaymentEvent]:
    """Events that follow from an input at a time in milliseconds since the epoch. Raises Impossible.

    Retries that are due come after the input: a result that arrives at that moment saves the call.
    """
    if isinstance(command, ProviderOutcome):
        yield from on_provider_result(payments, command, at_ms)
    elif isinstance(command, GroupDecision):
        yield from on_group_decision(payments, command)
    elif isinstance(command, RefundCommand):
        yield from on_refund_command(payments, command)
    yield from retry_due_calls(payments, at_ms)
