"""The provider calls that a decision requests, and their idempotency keys."""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentDecision, ProviderCall

_OPERATION_NAMES = {
    pb.OPERATION_AUTHORISE: "authorise",
    pb.OPERATION_SALE: "sale",
    pb.OPERATION_CAPTURE: "capture",
    pb.OPERATION_VOID: "void",
    pb.OPERATION_REFUND: "refund",
    pb.OPERATION_CHECK: "check",
}
#: Operations that are calls.
OPERATIONS = frozenset(_OPERATION_NAMES)


def idempotency_key(call: ProviderCall) -> str:
    """Idempotency key of a call: order:operation:attempt. Raises KeyError for an unknown operation."""
    return f"{call.order}:{_OPERATION_NAMES[call.operation]}:{call.attempt}"


def calls_of(decision: PaymentDecision) -> list[ProviderCall]:
    """Calls that a decision requests, in order.

    Left out are a void without a hold, which only notes a release, and a call that the same decision defers or gives
    up: the decision that retries it makes the call.
    """
    calls: dict[tuple[str, Operation.ValueType, int], ProviderCall] = {}
    for event in decision.events:
        match event.WhichOneof("body"):
            case "hold_requested":
                call = event.hold_requested.call
            case "capture_requested":
                call = event.capture_requested.call
            case "void_requested":
                call = event.void_requested.call
                if not call.hold:
                    continue
            case "refund_requested":
                call = event.refund_requested.call
            case "hold_check_requested":
                call = event.hold_check_requested.call
            case "call_retried":
                call = event.call_retried.call
            case "call_deferred" | "call_given_up" as kind:
                deferred = getattr(event, kind)
                calls.pop((deferred.order, deferred.operation, deferred.attempt), None)
                continue
            case _:
                continue
        calls[call.order, call.operation, call.attempt] = call
    return list(calls.values())
