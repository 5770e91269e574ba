"""Scenarios of the payments service: builders of its inputs, events as text, and the payments of one group."""

from __future__ import annotations

from typing import Any, Self

from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation, OperatorAction, PaymentDecision, PaymentEvent, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import (
    DISPUTE_STATE_OPEN,
    OUTCOME_ORIGIN_NOTIFICATION,
    OperatorCommand,
    OutcomeDispute,
    OutcomeExternal,
    OutcomeRefundReversed,
    PaymentInput,
    ProviderOutcome,
)

from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.output.provider_calls import calls_of, idempotency_key
from services.payments.domain.rules_version import CURRENT, FIRST
from services.payments.domain.state.model import GroupPayments
from tests.scenarios import group_events, inputs
from tests.scenarios.facts import GROUP
from tests.scenarios.scenario import Encodable, Scenario

START_MS = 1_700_000_000_000
STEP_MS = 10
AUTHORISE, SALE, CHECK = pb.OPERATION_AUTHORISE, pb.OPERATION_SALE, pb.OPERATION_CHECK
CAPTURE, VOID, REFUND = pb.OPERATION_CAPTURE, pb.OPERATION_VOID, pb.OPERATION_REFUND


# Inputs -------------------------------------------------------------------------------------------------------------


def group(*events: GroupEvent) -> PaymentInput:
    return inputs.group_decided(GROUP, *events)


def seat(order: str = "o1", amount: int = 100, method: str = "card_ok", currency: str = "CNY") -> GroupEvent:
    return group_events.seat_reserved(
        order,
        f"customer of {order}",
        amount,
        currency=currency,
        payment_method=method,
        hold_until_ms=START_MS + 86_400_000,
    )


def settlement(amount: int = 60, order: str = "o1", hold: str = "h1", currency: str = "CNY") -> GroupEvent:
    return group_events.settlement_requested(order, amount, hold, currency)


def reserved(order: str = "o1", amount: int = 100, method: str = "card_ok", currency: str = "CNY") -> PaymentInput:
    return group(seat(order, amount, method, currency))


def settle(amount: int = 60, order: str = "o1", hold: str = "h1", currency: str = "CNY") -> PaymentInput:
    return group(settlement(amount, order, hold, currency))


def release(order: str = "o1") -> PaymentInput:
    return group(group_events.release_requested(order))


def expired() -> PaymentInput:
    return group(group_events.expired())


def refund(name: str = "r1", amount: int = 0, order: str = "o1", digest: bytes = b"digest") -> PaymentInput:
    return inputs.refund_command(order, name, amount, reason="torn", request_sha256=digest)


def tick() -> PaymentInput:
    return PaymentInput(tick=Tick())


def authorised(
    hold: str = "h1",
    amount: int = 100,
    attempt: int = 1,
    order: str = "o1",
    operation: Operation.ValueType = AUTHORISE,
    currency: str = "CNY",
) -> PaymentInput:
    body = inputs.authorised(hold, amount, START_MS * 2, currency)
    return inputs.provider_result(order, operation, attempt, **body)


def sold(hold: str = "h1", amount: int = 100, attempt: int = 1, order: str = "o1") -> PaymentInput:
    return authorised(hold, amount, attempt, order, SALE)


def action_required(
    hold: str = "h1",
    url: str = "https://confirm",
    operation: Operation.ValueType = AUTHORISE,
    attempt: int = 1,
    order: str = "o1",
) -> PaymentInput:
    return inputs.provider_result(order, operation, attempt, **inputs.action_required(hold, url))


def declined(
    operation: Operation.ValueType = AUTHORISE, attempt: int = 1, reason: str = "no funds", order: str = "o1"
) -> PaymentInput:
    return inputs.provider_result(order, operation, attempt, **inputs.declined(reason))


def captured(
    hold: str = "h1",
    amount: int = 60,
    attempt: int = 1,
    operation: Operation.ValueType = CAPTURE,
    order: str = "o1",
) -> PaymentInput:
    return inputs.provider_result(order, operation, attempt, **inputs.captured(hold, amount))


def voided(
    hold: str = "h1", attempt: int = 1, operation: Operation.ValueType = VOID, order: str = "o1"
) -> PaymentInput:
    return inputs.provider_result(order, operation, attempt, **inputs.voided(hold))


def refunded(
    amount: int,
    attempt: int = 1,
    hold: str = "h1",
    order: str = "o1",
    operation: Operation.ValueType = REFUND,
) -> PaymentInput:
    return inputs.provider_result(order, operation, attempt, **inputs.refunded(hold, amount))


def absent(operation: Operation.ValueType = AUTHORISE, attempt: int = 1, order: str = "o1") -> PaymentInput:
    return inputs.provider_result(order, operation, attempt, **inputs.absent())


def hold_gone(
    operation: Operation.ValueType = CAPTURE, attempt: int = 1, hold: str = "h1", order: str = "o1"
) -> PaymentInput:
    return inputs.provider_result(order, operation, attempt, **inputs.hold_gone(hold))


def retry_later(
    operation: Operation.ValueType = AUTHORISE, attempt: int = 1, after_ms: int = 0, order: str = "o1"
) -> PaymentInput:
    return inputs.provider_result(order, operation, attempt, **inputs.retry_later(after_ms=after_ms))


# Events as text -----------------------------------------------------------------------------------------------------


def name_of(event: PaymentEvent) -> str:
    """HoldRequested, Captured, …"""
    return "".join(part.capitalize() for part in str(event.WhichOneof("body")).split("_"))


def _call(call: ProviderCall) -> str:
    name = f"{Operation.Name(call.operation)[10:].lower()}:{call.attempt}"
    return " ".join(str(part) for part in (name, call.hold, call.amount_minor, call.refund) if part not in ("", 0))


def describe(event: PaymentEvent) -> str:
    """An event in one line. Orders other than o1 are named first."""
    kind = str(event.WhichOneof("body"))
    body = getattr(event, kind)
    order = getattr(body, "order", "") or (body.call.order if hasattr(body, "call") else "")
    match kind:
        case "hold_requested" | "capture_requested" | "void_requested" | "refund_requested" | "call_retried":
            text = "noted" if kind == "void_requested" and not body.call.hold else _call(body.call)
        case "hold_check_requested":
            text = _call(body.call)
        case "hold_checked":
            text = "ended" if body.ended else ""
        case "captured":
            text = f"{body.hold} {body.amount_minor} released {body.released_minor}"
        case "hold_authorised" | "voided" | "hold_lapsed":
            text = f"{body.hold} {body.amount_minor}"
        case "refunded":
            text = f"{body.hold} {body.amount_minor} {body.refund}".rstrip()
            text += f" twice {body.excess_minor}" if body.excess_minor else ""
        case "suspense_recorded":
            text = f"{body.hold} {body.amount_minor} {body.currency}"
        case "refund_declined":
            text = f"{body.refund} {body.amount_minor}".strip()
        case "money_owed":
            text = f"{body.amount_minor} {body.refund}".rstrip() + (" alarm" if body.alarm else "")
        case "refund_reversed" | "returned_outside" | "dispute_won" | "dispute_lost" | "suspense_kept":
            text = f"{body.hold} {body.amount_minor}"
        case "dispute_opened":
            text = f"{body.dispute} {body.amount_minor} withdrawn {body.withdrawn_minor}"
        case "external_operation_recorded":
            text = f"{Operation.Name(body.operation)[10:].lower()} {body.hold} {body.amount_minor}"
        case "operator_acted":
            text = body.refusal or str(body.action.WhichOneof("action"))
        case "ledger_adjusted":
            text = f"{body.from_account} {body.to_account} {body.amount_minor}"
        case "call_given_up":
            text = f"{Operation.Name(body.operation)[10:].lower()}:{body.attempt}"
        case "call_deferred":
            text = f"{Operation.Name(body.operation)[10:].lower()}:{body.attempt}"
        case "action_required":
            text = f"{body.hold} {body.action_url}"
        case "faulted":
            text = body.error
        case _:
            text = ""
    prefix = "" if order in ("o1", "") else f"{order}: "
    return f"{prefix}{name_of(event)} {text}".rstrip()


# The scenario -------------------------------------------------------------------------------------------------------


class PaymentsScenario(Scenario[GroupPayments]):
    """The payments of one group, input by input."""

    def __init__(self, rules_version: int = FIRST) -> None:
        """Inputs are stamped with `rules_version`."""
        super().__init__(GroupPaymentsDomain(), GROUP, describe, start_ms=START_MS, step_ms=STEP_MS)
        self._rules_version = rules_version

    def when(self, *inputs: bytes | Encodable, at: int | None = None, after_ms: int | None = None) -> Self:
        """See Scenario. The event that selects the rules is left out of `events`."""
        stamped = []
        for one in inputs:
            copy = one
            if isinstance(one, PaymentInput) and self._rules_version != FIRST:
                copy = PaymentInput(rules_version=self._rules_version)
                copy.MergeFrom(one)
            stamped.append(copy)
        super().when(*stamped, at=at, after_ms=after_ms)
        self.events = [event for event in self.events if not event.HasField("rules_selected")]
        return self

    @property
    def last(self) -> PaymentDecision | None:
        """The decision of the last step."""
        return PaymentDecision.FromString(self.log[-1]) if self.events else None

    @property
    def calls(self) -> list[str]:
        """Idempotency keys of the calls that the last decision requests."""
        return [idempotency_key(call) for call in calls_of(self.last)] if self.last is not None else []


def given(*received: PaymentInput) -> PaymentsScenario:
    """The payments of a group after these inputs, under rules version 1."""
    return PaymentsScenario().given(*received)


def current(*received: PaymentInput) -> PaymentsScenario:
    """The payments of a group after these inputs, under the current rules."""
    return PaymentsScenario(CURRENT).given(*received)


def news(order: str = "o1", attempt: int = 0, **result: Any) -> PaymentInput:
    """News of the provider about an order."""
    return PaymentInput(
        outcome=ProviderOutcome(
            order=order,
            operation=pb.OPERATION_REFUND if attempt else pb.OPERATION_UNSPECIFIED,
            attempt=attempt,
            origin=OUTCOME_ORIGIN_NOTIFICATION,
            **result,
        )
    )


def reversed_refund(amount: int = 0, attempt: int = 1, hold: str = "h1", reference: str = "") -> PaymentInput:
    body = OutcomeRefundReversed(hold=hold, amount_minor=amount, reason="bank returned it", reference=reference)
    return news(attempt=attempt, refund_reversed=body)


def dispute(state: int = DISPUTE_STATE_OPEN, withdrawn: int = 60, hold: str = "h1", **fields: Any) -> PaymentInput:
    body = OutcomeDispute(hold=hold, dispute="dp", amount_minor=60, withdrawn_minor=withdrawn, **fields)
    body.state = state  # type: ignore[assignment] # a DisputeState by its number
    return news(dispute=body)


def external(
    operation: Operation.ValueType, amount: int, reference: str = "by hand", hold: str = "h1", order: str = "o1"
) -> PaymentInput:
    body = OutcomeExternal(hold=hold, operation=operation, amount_minor=amount, reference=reference)
    return news(order, external=body)


def operator(request_id: str, who: str = "ann", why: str = "the shopper called", **action: Any) -> PaymentInput:
    made = OperatorAction(order=action.pop("order", "o1"), **action)
    return PaymentInput(operator=OperatorCommand(request_id=request_id, operator=who, reason=why, action=made))
