"""Operators' requests as commands of the payment inbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from groupbuy.payments.v1.decisions_pb2 import OperatorAction
from groupbuy.payments.v1.inbox_pb2 import OperatorCommand
from groupbuy.payments.v1.operator_pb2 import (
    AdjustLedgerRequest,
    ApproveAdjustmentRequest,
    ApproveReturnRequest,
    FailMemberRequest,
    GiveUpCallRequest,
    KeepSuspenseRequest,
    MarkReturnedOutsideRequest,
    ReleaseMemberRequest,
    ResolveUnknownRequest,
    RetryCallRequest,
)

#: All repairs have name, request_id, reason, validate_only and expected_version.
RepairRequest: TypeAlias = (
    RetryCallRequest
    | GiveUpCallRequest
    | ReleaseMemberRequest
    | FailMemberRequest
    | MarkReturnedOutsideRequest
    | ApproveReturnRequest
    | KeepSuspenseRequest
    | AdjustLedgerRequest
    | ApproveAdjustmentRequest
    | ResolveUnknownRequest
)

#: The field of OperatorAction for a request, and the fields that both have.
_ACTIONS: dict[type[Any], tuple[str, tuple[str, ...]]] = {
    RetryCallRequest: ("retry_call", ("operation", "attempt")),
    GiveUpCallRequest: ("give_up_call", ("operation", "attempt")),
    ReleaseMemberRequest: ("release_member", ()),
    FailMemberRequest: ("fail_member", ()),
    MarkReturnedOutsideRequest: ("mark_returned_outside", ("hold", "refund", "amount_minor", "reference")),
    ApproveReturnRequest: ("approve_return", ("hold",)),
    KeepSuspenseRequest: ("keep_suspense", ("hold",)),
    AdjustLedgerRequest: ("adjust_ledger", ("from_account", "to_account", "amount_minor", "currency", "hold")),
    ApproveAdjustmentRequest: ("approve_adjustment", ("proposal",)),
    ResolveUnknownRequest: ("resolve_unknown", ("operation", "attempt", "done", "hold")),
}

#: The identity of a request id: lower case, as UUIDs are equal in both.
_ID: Callable[[str], str] = str.lower


def action_of(order: str, request: RepairRequest) -> OperatorAction:
    """The action of a request on an order."""
    field, names = _ACTIONS[type(request)]
    action = OperatorAction(order=order)
    made = getattr(action, field)
    made.SetInParent()
    for name in names:
        value = getattr(request, name)
        setattr(made, name, _ID(value) if name == "proposal" else value)
    return action


def command_of(order: str, request: RepairRequest, operator: str) -> OperatorCommand:
    """The command of a request."""
    return OperatorCommand(
        request_id=_ID(request.request_id),
        operator=operator,
        reason=request.reason,
        action=action_of(order, request),
    )
