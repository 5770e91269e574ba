"""Errors of the groups API."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from groupbuy.errors.v1 import errors_pb2
from groupbuy.errors.v1.errors_pb2 import ErrorReason
from groupbuy.groups.v1.groups_pb2 import GroupState

from chassis.rpc.errors import PREFIX, ApiError
from services.groups.domain.terms import INVALID_FIELDS, Problem

#: Reason of a group that has closed.
NOT_CANCELLABLE = errors_pb2.ERROR_REASON_GROUP_NOT_CANCELLABLE


def group_closed(group: str, state: GroupState.ValueType) -> ApiError:
    """The group has closed in another way."""
    name = GroupState.Name(state).removeprefix("GROUP_STATE_")
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        NOT_CANCELLABLE,
        f"groups/{group} can no longer be cancelled: it is {name}",
        metadata={"group": f"groups/{group}", "state": name},
    )


def answer_pending(resource: str) -> ApiError:
    """The request is in the log, but its decision was not seen before the deadline."""
    return ApiError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ANSWER_PENDING,
        f"no decision before the deadline; read {resource} for it",
        metadata={"name": resource},
    )


def campaign_exists(campaign: str) -> ApiError:
    """The id is in use by a different campaign."""
    return ApiError(
        grpc.StatusCode.ALREADY_EXISTS,
        errors_pb2.ERROR_REASON_CAMPAIGN_EXISTS,
        f"campaigns/{campaign} exists and differs; use another id",
        metadata={"campaign": f"campaigns/{campaign}"},
    )


def campaign_archived(campaign: str) -> ApiError:
    """An archived campaign can't be edited."""
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_CAMPAIGN_ARCHIVED,
        f"campaigns/{campaign} is archived and can no longer be edited",
        metadata={"campaign": f"campaigns/{campaign}"},
    )


def etag_mismatch(campaign: str, etag: str) -> ApiError:
    """Another edit came between read and write."""
    return ApiError(
        grpc.StatusCode.ABORTED,
        errors_pb2.ERROR_REASON_ETAG_MISMATCH,
        f"campaigns/{campaign} was changed by another edit; read it again",
        metadata={"campaign": f"campaigns/{campaign}", "etag": etag},
    )


def bad_terms(problems: Sequence[Problem]) -> ApiError:
    """The terms are invalid. The reason is that of the most specific problem; every problem is a field violation."""
    specific = next((problem for problem in problems if problem.reason != INVALID_FIELDS), problems[0])
    return ApiError(
        grpc.StatusCode.INVALID_ARGUMENT,
        ErrorReason.Value(PREFIX + specific.reason),
        f"campaign.{specific.field}: {specific.message}",
        fields=[(f"campaign.{problem.field}", problem.message) for problem in problems],
    )
