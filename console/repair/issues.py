"""Unfinished work, for the page Repair: each issue with links to the forms of the actions that may end it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, urlencode

from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import OPERATION_REFUND

from ops.log.rendering.describe import day_and_clock, short
from ops.repair.advice import KINDS, operation_name
from ops.terminal.amounts import amount


class ShownIssue(NamedTuple):
    """An issue of the payments service."""

    kind: str
    #: groups/{group}/orders/{order}
    order: str
    title: str
    #: Address of the payment's story.
    link: str
    amount: str
    reason: str
    #: When the next step follows by itself; empty: none does.
    due: str
    alarm: bool
    #: Title and address of the filled form of each action, the usual one first.
    steps: list[tuple[str, str]]


def shown_issue(issue: pb.Issue) -> ShownIssue:
    """An issue as the page shows it."""
    order = issue.payment.removesuffix("/payment")
    due = day_and_clock(issue.next_attempt_time.ToMilliseconds()) if issue.HasField("next_attempt_time") else ""
    return ShownIssue(
        KINDS.get(issue.kind, "issue"),
        order,
        f"payment {short(order.rpartition('/')[2])}",
        f"/{quote(order)}",
        amount(issue.amount_minor, issue.currency) if issue.amount_minor else "",
        issue.reason,
        due,
        issue.alarm,
        [(title, _form(action, issue, **fields)) for title, action, fields in _steps(issue)],
    )


def _steps(issue: pb.Issue) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Title, action and fields of what may follow, as `groupbuy-ops repair list` proposes it."""
    hold = {"hold": issue.hold}
    match issue.kind:
        case pb.ISSUE_KIND_OWED:
            refund = {"amount_minor": issue.amount_minor, "refund": issue.reference, **hold}
            yield "retry the refund", "RetryCall", {"operation": OPERATION_REFUND}
            yield "returned outside", "MarkReturnedOutside", refund
        case pb.ISSUE_KIND_CALL:
            call: dict[str, object] = {"operation": issue.operation, "attempt": issue.attempt}
            yield f"retry the {operation_name(issue.operation)}", "RetryCall", call
            yield "state its result", "ResolveUnknown", call
            yield "give up", "GiveUpCall", call
        case pb.ISSUE_KIND_SUSPENSE:
            yield "return it", "ApproveReturn", dict(hold)
            yield "keep it", "KeepSuspense", dict(hold)
        case pb.ISSUE_KIND_ADJUSTMENT:
            yield "approve it", "ApproveAdjustment", {"proposal": issue.reference}


def _form(action: str, issue: pb.Issue, **fields: object) -> str:
    given = {"name": issue.payment, **{name: value for name, value in fields.items() if value}}
    return f"/repair/{action}?{urlencode(given)}"
