"""Decodes an input and dispatches it to the rules. Yields events; the kernel applies each before the next is decided.

Deciding reads the state, the input and the log's time, and changes none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import OperatorCommand, PaymentInput, ProviderOutcome, RefundCommand

from services.payments.domain import rules_version
from services.payments.domain.errors import UnknownInput
from services.payments.domain.inputs.on_group_event import on_group_decision
from services.payments.domain.inputs.on_operator_command import on_operator_command
from services.payments.domain.inputs.on_provider_result import on_provider_result
from services.payments.domain.inputs.on_refund_command import on_refund_command
from services.payments.domain.inputs.on_timer import fire_due_timers, retry_due_calls
from services.payments.domain.inputs.provider_news import NEWS
from services.payments.domain.output import provider_events
from services.payments.domain.output.provider_calls import OPERATIONS
from services.payments.domain.state.model import GroupPayments

Input: TypeAlias = GroupDecision | ProviderOutcome | RefundCommand | OperatorCommand | Tick


@dataclass(slots=True)
class Command:
    """One decoded input."""

    body: Input
    #: The version of the rules that it selects, if it is the first input of its group.
    rules_version: int = rules_version.FIRST
    #: Age from which holds are checked before their group closes, in milliseconds; 0: they are not.
    check_holds_after_ms: int = 0


def decode(value: bytes) -> Command:
    """The content of a PaymentInput, parsed once. Raises DecodeError and UnknownInput."""
    record = PaymentInput.FromString(value)
    selects = rules_version.check(record.rules_version or rules_version.FIRST)
    return Command(_body(record), selects, record.check_holds_after_ms)


def _body(record: PaymentInput) -> Input:
    match record.WhichOneof("body"):
        case "group_decision":
            return _group_decision(record.group_decision)
        case "outcome":
            return _provider_result(record.outcome)
        case "refund":
            return record.refund
        case "tick":
            return record.tick
        case "operator":
            return _operator(record.operator)
    raise UnknownInput("a PaymentInput without a body that this build knows")


def _group_decision(value: bytes) -> GroupDecision:
    decision = GroupDecision.FromString(value)
    for event in decision.events:
        if event.WhichOneof("body") is None:
            raise UnknownInput(f"version {decision.version} of group {decision.group} holds an unknown event")
    return decision


def _provider_result(outcome: ProviderOutcome) -> ProviderOutcome:
    kind = outcome.WhichOneof("result")
    if kind is None:
        raise UnknownInput(f"order {outcome.order}: an outcome without a result that this build knows")
    if outcome.operation not in OPERATIONS and kind not in NEWS:
        raise UnknownInput(f"order {outcome.order}: an outcome of unknown operation {outcome.operation}")
    return outcome


def _operator(command: OperatorCommand) -> OperatorCommand:
    if command.action.WhichOneof("action") is None:
        raise UnknownInput(f"command {command.request_id}: an action that this build does not know")
    return command


def decide(payments: GroupPayments, command: Command, at_ms: int) -> Iterator[PaymentEvent]:
    """Events that follow from an input at a time in milliseconds since the epoch. Raises Impossible."""
    if payments.rules_version or command.rules_version == rules_version.FIRST:
        return _decide(payments, command, at_ms)
    return _decide_first(payments, command, at_ms)


def _decide_first(payments: GroupPayments, command: Command, at_ms: int) -> Iterator[PaymentEvent]:
    """The first decision of a group begins with the version of its rules. An input without events selects none."""
    selected = False
    for event in _decide(payments.under(command.rules_version), command, at_ms):
        if not selected:
            selected = True
            yield provider_events.rules_selected(command.rules_version)
        yield event


def _decide(payments: GroupPayments, command: Command, at_ms: int) -> Iterator[PaymentEvent]:
    """Retries that are due come after the input: a result that arrives at that moment saves the call."""
    body = command.body
    if isinstance(body, ProviderOutcome):
        yield from on_provider_result(payments, body, at_ms)
    elif isinstance(body, GroupDecision):
        yield from on_group_decision(payments, body, at_ms, command.check_holds_after_ms)
    elif isinstance(body, RefundCommand):
        yield from on_refund_command(payments, body)
    elif isinstance(body, OperatorCommand):
        yield from on_operator_command(payments, body, at_ms)
    yield from retry_due_calls(payments, at_ms)
    if payments.timers:
        yield from fire_due_timers(payments, at_ms)
