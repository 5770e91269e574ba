"""Results of the simulated provider as outcomes, for calls and notifications alike."""

from __future__ import annotations

from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from chassis.outside.call_errors import NotPossibleNow


def set_result(outcome: ProviderOutcome, result: pb.CallResult) -> None:
    """Sets the result of an outcome. Raises NotPossibleNow for an unknown status."""
    match result.status:
        case pb.STATUS_AUTHORISED:
            outcome.authorised.hold = result.hold
            outcome.authorised.amount_minor = result.amount_minor
            outcome.authorised.currency = result.currency
            outcome.authorised.capturable_until_ms = result.capturable_until_ms
        case pb.STATUS_ACTION_REQUIRED:
            outcome.action_required.hold = result.hold
            outcome.action_required.action_url = result.action_url
        case pb.STATUS_DECLINED:
            outcome.declined.reason = result.reason
        case pb.STATUS_CAPTURED:
            outcome.captured.hold = result.hold
            outcome.captured.amount_minor = result.amount_minor
            outcome.captured.currency = result.currency
        case pb.STATUS_VOIDED:
            outcome.voided.hold = result.hold
        case pb.STATUS_REFUNDED:
            outcome.refunded.hold = result.hold
            outcome.refunded.amount_minor = result.amount_minor
            outcome.refunded.currency = result.currency
            outcome.refunded.reference = result.key
        case pb.STATUS_HOLD_GONE:
            outcome.hold_gone.hold = result.hold
        case _:
            raise NotPossibleNow(f"unknown status {result.status} from the provider")
