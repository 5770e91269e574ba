"""Errors about groups and campaigns that the APIs of orders and groups share."""

from __future__ import annotations

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.rpc.errors import ApiError


def campaign_not_found(campaign: str) -> ApiError:
    """The campaigns' topic, read to its end, has no such campaign."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_CAMPAIGN_NOT_FOUND,
        f"there is no campaigns/{campaign}",
        metadata={"campaign": f"campaigns/{campaign}"},
    )


def group_not_found(group: str) -> ApiError:
    """The group was not opened."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_GROUP_NOT_FOUND,
        f"there is no groups/{group}",
        metadata={"group": f"groups/{group}"},
    )
