"""Share links as the API has them: what an order that came by one carries, and the answers to one that is not accepted.

One place for both services that look at links.
Must never repeat the token.
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
    """What an order through the link carries."""
    link = verified.link
    return Invitation(
        inviter=link.inviter,
        channel=link.channel,  # type: ignore[arg-type] # the enum is open
        depth=link.depth,
        link_id=verified.link_id,
        parent_link_id=link.parent,
    )


def link_refused(refused: LinkRefused, field: str) -> ApiError:
    """The link in a field of the request is not accepted."""
    code, reason = API_ERRORS[refused.why]
    return ApiError(code, reason, f"{field}: {refused.why.value}", fields=[(field, refused.why.value)])


def links_not_configured(variable: str) -> ApiError:
    """The service has no keys; `variable` is the setting that names them."""
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_LINKS_NOT_SET_UP,
        f"this service has no keys for share links: set {variable}",
    )
