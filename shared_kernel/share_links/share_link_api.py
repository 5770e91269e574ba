"""Share links in the API: the invitation of an order that came by a link, and the errors of an invalid link.

No error contains the token.
"""

from __future__ import annotations

from collections.abc import Mapping

from groupbuy.errors.v1 import errors_pb2
from groupbuy.links.v1.links_pb2 import Invitation

from chassis.rpc.errors import ApiError
from shared_kernel.api_errors import api_error, field_error
from shared_kernel.share_links.share_link_token import LinkRefused, Refusal, Verified

REASONS: Mapping[Refusal, errors_pb2.ErrorReason.ValueType] = {
    Refusal.MALFORMED: errors_pb2.ERROR_REASON_LINK_MALFORMED,
    Refusal.UNKNOWN_KEY: errors_pb2.ERROR_REASON_LINK_KEY_UNKNOWN,
    Refusal.BAD_SIGNATURE: errors_pb2.ERROR_REASON_LINK_SIGNATURE,
    Refusal.EXPIRED: errors_pb2.ERROR_REASON_LINK_EXPIRED,
    Refusal.WRONG_CAMPAIGN: errors_pb2.ERROR_REASON_LINK_WRONG_CAMPAIGN,
    Refusal.WRONG_GROUP: errors_pb2.ERROR_REASON_LINK_WRONG_GROUP,
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
    return field_error(REASONS[refused.reason], field, refused.reason.value)


def links_not_configured(variable: str) -> ApiError:
    """The error of a service without keys; `variable` is the setting for them."""
    return api_error(
        errors_pb2.ERROR_REASON_LINKS_NOT_SET_UP, f"this service has no keys for share links: set {variable}"
    )
