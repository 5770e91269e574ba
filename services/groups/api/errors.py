"""Every way in which the groups API says no."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from groupbuy.errors.v1 import errors_pb2
from groupbuy.errors.v1.errors_pb2 import ErrorReason
from groupbuy.groups.v1.groups_pb2 import GroupState

from chassis.rpc.errors import PREFIX, ApiError
from services.groups.domain.terms import INVALID_FIELDS, Problem

#: Reason of a group that is closed already.
NOT_CANCELLABLE = errors_pb2.ERROR_REASON_GROUP_NOT_CANCELLABLE


def group_not_found(group: str) -> ApiError:
    """Nobody has opened that group."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_GROUP_NOT_FOUND,
        f"there is no groups/{group}",
        metadata={"group": f"groups/{group}"},
    )


def group_closed(group: str, state: GroupState.ValueType) -> ApiError:
    """The group has ended otherwise."""
    name = GroupState.Name(state).removeprefix("GROUP_STATE_")
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        NOT_CANCELLABLE,
        f"groups/{group} can't be cancelled any more: it is {name}",
        metadata={"group": f"groups/{group}", "state": name},
    )


def answer_pending(resource: str) -> ApiError:
    """What was asked is in the log; the answer had not come by the deadline."""
    return ApiError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ANSWER_PENDING,
        f"the answer had not come by the deadline; reading {resource} tells",
        metadata={"name": resource},
    )


def campaign_not_found(campaign: str) -> ApiError:
    """There is no such campaign, the topic read to its end."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_CAMPAIGN_NOT_FOUND,
        f"there is no campaigns/{campaign}",
        metadata={"campaign": f"campaigns/{campaign}"},
    )


def campaign_exists(campaign: str) -> ApiError:
    """The id stands for another campaign."""
    return ApiError(
        grpc.StatusCode.ALREADY_EXISTS,
        errors_pb2.ERROR_REASON_CAMPAIGN_EXISTS,
        f"campaigns/{campaign} exists and differs; take another id",
        metadata={"campaign": f"campaigns/{campaign}"},
    )


def campaign_archived(campaign: str) -> ApiError:
    """What is archived stays as it is."""
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_CAMPAIGN_ARCHIVED,
        f"campaigns/{campaign} is archived: it can't be edited any more",
        metadata={"campaign": f"campaigns/{campaign}"},
    )


def etag_mismatch(campaign: str, etag: str) -> ApiError:
    """Somebody else's edit came between."""
    return ApiError(
        grpc.StatusCode.ABORTED,
        errors_pb2.ERROR_REASON_ETAG_MISMATCH,
        f"campaigns/{campaign} was changed by somebody else; read it again",
        metadata={"campaign": f"campaigns/{campaign}", "etag": etag},
    )


def bad_terms(problems: Sequence[Problem]) -> ApiError:
    """The terms don't make sense. The reason that says most is given; every problem is a field violation."""
    telling = next((problem for problem in problems if problem.reason != INVALID_FIELDS), problems[0])
    return ApiError(
        grpc.StatusCode.INVALID_ARGUMENT,
        ErrorReason.Value(PREFIX + telling.reason),
        f"campaign.{telling.field}: {telling.message}",
        fields=[(f"campaign.{problem.field}", problem.message) for problem in problems],
    )
