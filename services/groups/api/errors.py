"""Errors of the groups API."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from groupbuy.errors.v1 import errors_pb2
from groupbuy.errors.v1.errors_pb2 import ErrorReason
from groupbuy.groups.v1.groups_pb2 import GroupState

from chassis.rpc.errors import PREFIX, ApiError
from services.groups.domain.terms import INVALID_FIELDS, Problem
from shared_kernel.api_errors import api_error

#: Reason of a group that has closed.
NOT_CANCELLABLE = errors_pb2.ERROR_REASON_GROUP_NOT_CANCELLABLE


def group_closed(group: str, state: GroupState.ValueType) -> ApiError:
    """The group has closed in another way."""
    resource, name = f"groups/{group}", GroupState.Name(state).removeprefix("GROUP_STATE_")
    return api_error(
        NOT_CANCELLABLE, f"{resource} can no longer be cancelled: it is {name}", group=resource, state=name
    )


def answer_pending(resource: str) -> ApiError:
    """The request is in the log, but its decision was not seen before the deadline."""
    problem = f"no decision before the deadline; read {resource} for it"
    return api_error(errors_pb2.ERROR_REASON_ANSWER_PENDING, problem, name=resource)


def campaign_exists(campaign: str) -> ApiError:
    """The id is in use by a different campaign."""
    return _campaign_error(errors_pb2.ERROR_REASON_CAMPAIGN_EXISTS, campaign, "exists and differs; use another id")


def campaign_archived(campaign: str) -> ApiError:
    """An archived campaign can't be edited."""
    problem = "is archived and can no longer be edited"
    return _campaign_error(errors_pb2.ERROR_REASON_CAMPAIGN_ARCHIVED, campaign, problem)


def etag_mismatch(campaign: str, etag: str) -> ApiError:
    """Another edit came between read and write."""
    problem = "was changed by another edit; read it again"
    return _campaign_error(errors_pb2.ERROR_REASON_ETAG_MISMATCH, campaign, problem, etag=etag)


def _campaign_error(reason: errors_pb2.ErrorReason.ValueType, campaign: str, problem: str, **metadata: str) -> ApiError:
    name = f"campaigns/{campaign}"
    return api_error(reason, f"{name} {problem}", campaign=name, **metadata)


def bad_terms(problems: Sequence[Problem]) -> ApiError:
    """The terms are invalid. The reason is that of the most specific problem; every problem is a field violation."""
    specific = next((problem for problem in problems if problem.reason != INVALID_FIELDS), problems[0])
    return ApiError(
        grpc.StatusCode.INVALID_ARGUMENT,
        ErrorReason.Value(PREFIX + specific.reason),
        f"campaign.{specific.field}: {specific.message}",
        fields=[(f"campaign.{problem.field}", problem.message) for problem in problems],
    )
