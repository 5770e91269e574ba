"""ListIssues: pages of what is owed, stuck, in suspense or in dispute, over all replicas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from groupbuy.payments.v1 import operator_pb2 as pb

from chassis.routing.partition_router import LocalRouter, Partitions
from chassis.routing.peer_calls import Context
from chassis.rpc.pagination import Key, PageRequest, PageSize
from services.payments.api.mapping import timestamp
from services.payments.api.names import PaymentName, parse_payment
from services.payments.api.ports import PaymentsView
from services.payments.domain.state.issues import Issue, issues_of

PAGE_SIZE = PageSize(default=50, limit=500)
#: In place of a group id: all groups.
ANY = "-"


class IssueView(PaymentsView, Protocol):
    """The payment decider's view, with the groups that may have an issue."""

    async def groups_with_issues(self, partitions: Partitions = None) -> list[str]:
        """The groups of some partitions or of all, sorted. Raises NotReady unless this process has them."""
        ...


class IssueList:
    """Handles ListIssues."""

    def __init__(self, view: IssueView, router: LocalRouter) -> None:
        self._view = view
        self._router = router

    async def issues(self, request: pb.ListIssuesRequest, context: Context) -> pb.ListIssuesResponse:
        """A page of issues. Raises NotReady, and ApiError INVALID_FIELDS."""
        group = request.parent.removeprefix("groups/")
        paging = _paging(request)
        if group != ANY:

            async def of_group() -> pb.ListIssuesResponse:
                return self._page(request, paging, [group])

            return await self._router.call_owner("ListIssues", group, request, context, of_group)

        async def here(partitions: Partitions) -> pb.ListIssuesResponse:
            groups = await self._view.groups_with_issues(partitions)
            first = "" if paging.after is None else str(paging.after[0])
            return self._page(request, paging, [one for one in groups if one >= first])

        parts = await self._router.scatter_gather("ListIssues", request, context, here)
        if len(parts) == 1:
            return parts[0]
        more = any(part.next_page_token for part in parts)
        page = paging.merge((one for part in parts for one in part.issues), _key, more=more)
        return pb.ListIssuesResponse(issues=page.items, next_page_token=page.next_token)

    def _page(self, request: pb.ListIssuesRequest, paging: PageRequest, groups: Iterable[str]) -> pb.ListIssuesResponse:
        """A page of the issues of sorted groups. One issue more than the page shows whether there is a next page."""
        found: list[pb.Issue] = []
        for group in groups:
            if len(found) > paging.size:
                break
            found += [one for one in self._of_group(group, request) if paging.after is None or _key(one) > paging.after]
        page = paging.page_of_sorted(found, _key)
        return pb.ListIssuesResponse(issues=page.items, next_page_token=page.next_token)

    def _of_group(self, group: str, request: pb.ListIssuesRequest) -> list[pb.Issue]:
        aggregate = self._view.get(group)
        if aggregate is None:
            return []
        wanted = {int(kind) for kind in request.kinds}
        return [
            issue_message(group, one, aggregate.version)
            for one in issues_of(aggregate.state)
            if (not wanted or int(one.kind) in wanted) and (one.alarm or not request.alarms_only)
        ]


def issue_message(group: str, issue: Issue, version: int) -> pb.Issue:
    """An issue as a message."""
    message = pb.Issue(
        payment=str(PaymentName(group, issue.order)),
        kind=int(issue.kind),  # type: ignore[arg-type] # same numbers
        amount_minor=issue.amount,
        currency=issue.currency,
        reason=issue.reason,
        alarm=issue.alarm,
        hold=issue.hold,
        operation=issue.operation,  # type: ignore[arg-type] # an Operation by its number
        attempt=issue.attempt,
        reference=issue.reference,
        version=version,
    )
    if issue.next_ms:
        message.next_attempt_time.CopyFrom(timestamp(issue.next_ms))
    return message


def _paging(request: pb.ListIssuesRequest) -> PageRequest:
    kinds = ",".join(map(str, sorted(set(request.kinds))))
    scope = f"issues/{request.parent}/{kinds}/{request.alarms_only}"
    types = (str, str, int, str, int, int, str)
    return PageRequest(scope, types, PAGE_SIZE.of(request.page_size), request.page_token)


def _key(one: pb.Issue) -> Key:
    name = parse_payment(one.payment)
    return (name.group, name.order, one.kind, one.hold, one.operation, one.attempt, one.reference)
