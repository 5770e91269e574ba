"""The calls that a decision asks for, and their names. All that effects need to know of the domain."""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentDecision, ProviderCall

_NAMES = {
    pb.OPERATION_AUTHORISE: "authorise",
    pb.OPERATION_SALE: "sale",
    pb.OPERATION_CAPTURE: "capture",
    pb.OPERATION_VOID: "void",
    pb.OPERATION_REFUND: "refund",
}


#: Operations that are calls.
OPERATIONS = frozenset(_NAMES)


def key(call: ProviderCall) -> str:
    """Idempotency key of a call: order:operation:attempt. Raises KeyError for an operation that is none."""
    return f"{call.order}:{_NAMES[call.operation]}:{call.attempt}"


def calls_of(decision: PaymentDecision) -> list[ProviderCall]:
    """Calls to make, in order.

    A void of no hold is only a mark that an order is to be let go. A call that its own decision defers waits for the
    decision that retries it.
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
            case "call_retried":
                call = event.call_retried.call
            case "call_deferred":
                deferred = event.call_deferred
                calls.pop((deferred.order, deferred.operation, deferred.attempt), None)
                continue
            case _:
                continue
        calls[call.order, call.operation, call.attempt] = call
    return list(calls.values())
