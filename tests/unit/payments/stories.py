"""Given/when/then for payments: given inputs, when an input arrives, then these events, each as one line of text.

Inputs and decisions pass through the kernel's decide and apply as bytes. After each decision, a fold of the log is
compared with the state that decided.
"""

from __future__ import annotations

from typing import Any

from groupbuy.groups.v1.decisions_pb2 import (
    GroupDecision,
    GroupEvent,
    GroupExpired,
    ReleaseRequested,
    SeatReserved,
    SettlementRequested,
)
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1 import inbox_pb2 as inbox
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentDecision, PaymentEvent, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome, RefundCommand

from eventlog.core.aggregate import Aggregate, apply, decide
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.events import calls_of, idempotency_key
from services.payments.domain.model import GroupPayments

GROUP = "9f6c1c5e-0000-4000-8000-000000000001"
START_MS = 1_700_000_000_000
AUTHORISE, SALE = pb.OPERATION_AUTHORISE, pb.OPERATION_SALE
CAPTURE, VOID, REFUND = pb.OPERATION_CAPTURE, pb.OPERATION_VOID, pb.OPERATION_REFUND


# Inputs -------------------------------------------------------------------------------------------------------------


def group(*events: GroupEvent) -> PaymentInput:
    decision = GroupDecision(group=GROUP, version=1, events=events)
    return PaymentInput(group_decision=decision.SerializeToString())


def seat(order: str = "o1", amount: int = 100, method: str = "card_ok", currency: str = "CNY") -> GroupEvent:
    reserved = SeatReserved(
        order=order,
        customer=f"customer of {order}",
        quantity=1,
        hold_amount_minor=amount,
        currency=currency,
        payment_method=method,
        hold_until_ms=START_MS + 86_400_000,
    )
    return GroupEvent(seat_reserved=reserved)


def settlement(amount: int = 60, order: str = "o1", hold: str = "h1", currency: str = "CNY") -> GroupEvent:
    wanted = SettlementRequested(order=order, hold=hold, amount_minor=amount, currency=currency)
    return GroupEvent(settlement_requested=wanted)


def releasing(order: str = "o1") -> GroupEvent:
    return GroupEvent(release_requested=ReleaseRequested(order=order))


def reserved(order: str = "o1", amount: int = 100, method: str = "card_ok", currency: str = "CNY") -> PaymentInput:
    return group(seat(order, amount, method, currency))


def settle(amount: int = 60, order: str = "o1", hold: str = "h1", currency: str = "CNY") -> PaymentInput:
    return group(settlement(amount, order, hold, currency))


def release(order: str = "o1") -> PaymentInput:
    return group(releasing(order))


def expired() -> PaymentInput:
    return group(GroupEvent(expired=GroupExpired()))


def refund(name: str = "r1", amount: int = 0, order: str = "o1", digest: bytes = b"digest") -> PaymentInput:
    return PaymentInput(
        refund=RefundCommand(order=order, refund=name, amount_minor=amount, reason="torn", request_sha256=digest)
    )


def tick() -> PaymentInput:
    return PaymentInput(tick=Tick())


def _outcome(order: str, operation: Operation.ValueType, attempt: int, **result: Any) -> PaymentInput:
    return PaymentInput(outcome=ProviderOutcome(order=order, operation=operation, attempt=attempt, **result))


def authorised(
    hold: str = "h1",
    amount: int = 100,
    attempt: int = 1,
    order: str = "o1",
    operation: Operation.ValueType = AUTHORISE,
    currency: str = "CNY",
) -> PaymentInput:
    body = inbox.OutcomeAuthorised(hold=hold, amount_minor=amount, currency=currency, capturable_until_ms=START_MS * 2)
    return _outcome(order, operation, attempt, authorised=body)


def sold(hold: str = "h1", amount: int = 100, attempt: int = 1, order: str = "o1") -> PaymentInput:
    return authorised(hold, amount, attempt, order, SALE)


def action(
    hold: str = "h1",
    url: str = "https://confirm",
    operation: Operation.ValueType = AUTHORISE,
    attempt: int = 1,
    order: str = "o1",
) -> PaymentInput:
    return _outcome(order, operation, attempt, action_required=inbox.OutcomeActionRequired(action_url=url, hold=hold))


def declined(
    operation: Operation.ValueType = AUTHORISE, attempt: int = 1, reason: str = "no funds", order: str = "o1"
) -> PaymentInput:
    return _outcome(order, operation, attempt, declined=inbox.OutcomeDeclined(reason=reason))


def captured(
    hold: str = "h1",
    amount: int = 60,
    attempt: int = 1,
    operation: Operation.ValueType = CAPTURE,
    order: str = "o1",
) -> PaymentInput:
    return _outcome(order, operation, attempt, captured=inbox.OutcomeCaptured(hold=hold, amount_minor=amount))


def voided(
    hold: str = "h1", attempt: int = 1, operation: Operation.ValueType = VOID, order: str = "o1"
) -> PaymentInput:
    return _outcome(order, operation, attempt, voided=inbox.OutcomeVoided(hold=hold))


def refunded(
    amount: int,
    attempt: int = 1,
    hold: str = "h1",
    order: str = "o1",
    operation: Operation.ValueType = REFUND,
) -> PaymentInput:
    return _outcome(order, operation, attempt, refunded=inbox.OutcomeRefunded(hold=hold, amount_minor=amount))


def absent(operation: Operation.ValueType = AUTHORISE, attempt: int = 1, order: str = "o1") -> PaymentInput:
    return _outcome(order, operation, attempt, absent=inbox.OutcomeAbsent())


def gone(
    operation: Operation.ValueType = CAPTURE, attempt: int = 1, hold: str = "h1", order: str = "o1"
) -> PaymentInput:
    return _outcome(order, operation, attempt, hold_gone=inbox.OutcomeHoldGone(hold=hold))


def later(
    operation: Operation.ValueType = AUTHORISE, attempt: int = 1, after_ms: int = 0, order: str = "o1"
) -> PaymentInput:
    return _outcome(order, operation, attempt, retry_later=inbox.OutcomeRetryLater(error="timeout", after_ms=after_ms))


# Events as text -----------------------------------------------------------------------------------------------------


def name_of(event: PaymentEvent) -> str:
    """HoldRequested, Captured, …"""
    return "".join(part.capitalize() for part in str(event.WhichOneof("body")).split("_"))


def _call(call: ProviderCall) -> str:
    name = f"{Operation.Name(call.operation)[10:].lower()}:{call.attempt}"
    return " ".join(str(part) for part in (name, call.hold, call.amount_minor, call.refund) if part not in ("", 0))


def text_of(event: PaymentEvent) -> str:
    """An event in one line. Orders other than o1 are named first."""
    kind = str(event.WhichOneof("body"))
    body = getattr(event, kind)
    order = getattr(body, "order", "") or (body.call.order if hasattr(body, "call") else "")
    match kind:
        case "hold_requested" | "capture_requested" | "void_requested" | "refund_requested" | "call_retried":
            text = "noted" if kind == "void_requested" and not body.call.hold else _call(body.call)
        case "captured":
            text = f"{body.hold} {body.amount_minor} released {body.released_minor}"
        case "hold_authorised" | "voided" | "hold_lapsed":
            text = f"{body.hold} {body.amount_minor}"
        case "refunded":
            text = f"{body.hold} {body.amount_minor} {body.refund}".rstrip()
        case "suspense_recorded":
            text = f"{body.hold} {body.amount_minor} {body.currency}"
        case "refund_declined":
            text = f"{body.refund} {body.amount_minor}".strip()
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


# The story ----------------------------------------------------------------------------------------------------------


class Story:
    """The payments of one group, input by input."""

    def __init__(self) -> None:
        self.domain: Any = GroupPaymentsDomain()
        self.aggregate: Aggregate[GroupPayments] = Aggregate(GROUP, self.domain.initial(GROUP))
        self.folded: Aggregate[GroupPayments] = Aggregate(GROUP, self.domain.initial(GROUP))
        self.inputs: list[tuple[bytes, int]] = []
        self.log: list[bytes] = []
        self.at_ms = START_MS
        self.last: PaymentDecision | None = None

    @property
    def payments(self) -> GroupPayments:
        return self.aggregate.state

    @property
    def events(self) -> list[PaymentEvent]:
        return list(self.last.events) if self.last is not None else []

    @property
    def calls(self) -> list[str]:
        """Idempotency keys of the calls that the last decision requests."""
        return [idempotency_key(call) for call in calls_of(self.last)] if self.last is not None else []

    def when(self, received: PaymentInput, after_ms: int = 10) -> Story:
        """Decides one input, `after_ms` after the last one."""
        self.at_ms += after_ms
        value = received.SerializeToString()
        self.inputs.append((value, self.at_ms))
        sealed = decide(self.domain, self.aggregate, value, len(self.inputs), self.at_ms)
        self.last = None
        if sealed is not None:
            self.log.append(sealed)
            self.last = self.domain.decode_decision(sealed)
            assert apply(self.domain, self.folded, sealed, len(self.log))
        assert self.folded.state == self.aggregate.state, "the fold of the log differs from the state that decided"
        return self

    def then(self, *lines: str) -> Story:
        """Checks that the last input led to exactly these events, in order."""
        assert [text_of(event) for event in self.events] == list(lines)
        return self

    def then_nothing(self) -> Story:
        """Checks that the last input led to no event."""
        return self.then()


def given(*inputs: PaymentInput) -> Story:
    """A story after these inputs."""
    story = Story()
    for one in inputs:
        story.when(one)
    return story
