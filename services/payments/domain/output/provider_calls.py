"""The provider calls that a decision requests, and their idempotency keys."""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentDecision, PaymentEvent, ProviderCall

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
#: Events that hold a whole call, and the order in it.
WITH_CALL = frozenset(
    kind.name
    for kind in PaymentEvent.DESCRIPTOR.oneofs_by_name["body"].fields
    if kind.message_type is not None and "call" in kind.message_type.fields_by_name
)


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
        kind = event.WhichOneof("body")
        if kind in WITH_CALL:
            call = getattr(event, kind).call
            if kind != "void_requested" or call.hold:
                calls[call.order, call.operation, call.attempt] = call
        elif kind in {"call_deferred", "call_given_up"}:
            deferred = getattr(event, kind)
            calls.pop((deferred.order, deferred.operation, deferred.attempt), None)
    return list(calls.values())
