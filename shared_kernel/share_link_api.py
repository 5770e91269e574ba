"""Share links in the API: the invitation of an order that came by a link, and the errors of an invalid link.

No error contains the token.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from groupbuy.errors.v1 import errors_pb2
from groupbuy.links.v1.links_pb2 import Invitation

from chassis.rpc.errors import ApiError
from shared_kernel.share_links import LinkRefused, Refusal, Verified

API_ERRORS: Mapping[Refusal, tuple[grpc.StatusCode, errors_pb2.ErrorReason.ValueType]] = {
    Refusal.MALFORMED: (grpc.StatusCode.INVALID_ARGUMENT, errors_pb2.ERROR_REASON_LINK_MALFORMED),
    Refusal.UNKNOWN_KEY: (grpc.StatusCode.PERMISSION_DENIED, errors_pb2.ERROR_REASON_LINK_KEY_UNKNOWN),
    Refusal.BAD_SIGNATURE: (grpc.StatusCode.PERMISSION_DENIED, errors_pb2.ERROR_REASON_LINK_SIGNATURE),
    Refusal.EXPIRED: (grpc.StatusCode.FAILED_PRECONDITION, errors_pb2.ERROR_REASON_LINK_EXPIRED),
    Refusal.WRONG_CAMPAIGN: (grpc.StatusCode.INVALID_ARGUMENT, errors_pb2.ERROR_REASON_LINK_WRONG_CAMPAIGN),
    Refusal.WRONG_GROUP: (grpc.StatusCode.INVALID_ARGUMENT, errors_pb2.ERROR_REASON_LINK_WRONG_GROUP),
}


def invitation(verified: Verified) -> Invitation:
    """The invitation of an order that came by the link."""
    link = verified.link
    return Invitation(
        inviter=link.inviter,
        channel=link.channel,  # type: ignore[arg-type] # the enum is open
        depth=link.depth,
        link_id=verified.link_id,
        parent_link_id=link.parent,
    )


def link_refused(refused: LinkRefused, field: str) -> ApiError:
    """The error for an invalid link in a field of the request."""
    code, error_reason = API_ERRORS[refused.reason]
    message = refused.reason.value
    return ApiError(code, error_reason, f"{field}: {message}", fields=[(field, message)])


def links_not_configured(variable: str) -> ApiError:
    """The error of a service without keys; `variable` is the setting for them."""
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_LINKS_NOT_SET_UP,
        f"this service has no keys for share links: set {variable}",
    )
