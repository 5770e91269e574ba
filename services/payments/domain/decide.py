"""One input, and what follows from it. Yields events; each is applied to the purse before the next is asked for.

Must never change the purse itself, and knows nothing but the purse, the input and the log's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome, RefundCommand

from services.payments.domain.errors import UnknownInput
from services.payments.domain.model import GroupPayments
from services.payments.domain.model_parts import COUNTERS
from services.payments.domain.on_group_event import follow
from services.payments.domain.on_refund_command import refund
from services.payments.domain.results import on_result
from services.payments.domain.retries import ask_again

Input: TypeAlias = GroupDecision | ProviderOutcome | RefundCommand | Tick


def decode(value: bytes) -> Input:
    """A PaymentInput, parsed once. Raises DecodeError and UnknownInput."""
    record = PaymentInput.FromString(value)
    match record.WhichOneof("body"):
        case "group_decision":
            return _group_decision(record.group_decision)
        case "outcome":
            return _outcome(record.outcome)
        case "refund":
            return record.refund
        case "tick":
            return record.tick
    raise UnknownInput("a PaymentInput without a body that is known here")


def _group_decision(value: bytes) -> GroupDecision:
    decision = GroupDecision.FromString(value)
    for event in decision.events:
        if event.WhichOneof("body") is None:
            raise UnknownInput(f"version {decision.version} of group {decision.group} holds an unknown event")
    return decision


def _outcome(outcome: ProviderOutcome) -> ProviderOutcome:
    if outcome.WhichOneof("result") is None:
        raise UnknownInput(f"order {outcome.order}: an outcome without a result that is known here")
    if outcome.operation not in COUNTERS:
        raise UnknownInput(f"order {outcome.order}: an outcome of operation {outcome.operation}")
    return outcome


def decide(purse: GroupPayments, command: Input, at_ms: int) -> Iterator[PaymentEvent]:
    """What follows from an input at a time in milliseconds since the epoch. Raises Impossible.

    What has waited long enough is asked again after it: an answer that comes just then saves the call.
    """
    if isinstance(command, ProviderOutcome):
        yield from on_result(purse, command, at_ms)
    elif isinstance(command, GroupDecision):
        yield from follow(purse, command)
    elif isinstance(command, RefundCommand):
        yield from refund(purse, command)
    yield from ask_again(purse, at_ms)
