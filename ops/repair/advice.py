"""The command that an issue needs, ready to be run. Words in capitals are the operator's to fill in."""

from __future__ import annotations

import shlex
from typing import Any

from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation

PROGRAM = "groupbuy-ops repair"
REASON = '--reason "WHY"'

#: Names of the kinds, as `stuck` and `repair list` print them.
KINDS: dict[int, str] = {
    pb.ISSUE_KIND_OWED: "owed",
    pb.ISSUE_KIND_CALL: "call",
    pb.ISSUE_KIND_SUSPENSE: "suspense",
    pb.ISSUE_KIND_DISPUTE: "dispute",
    pb.ISSUE_KIND_ADJUSTMENT: "adjustment",
    pb.ISSUE_KIND_RETURNED_TWICE: "returned-twice",
}


def operation_name(operation: int) -> str:
    """`capture` for OPERATION_CAPTURE."""
    named: Any = operation
    return Operation.Name(named).removeprefix("OPERATION_").lower()


def commands(issue: pb.Issue) -> list[str]:
    """The commands that may follow, the usual one first."""
    payment = issue.payment
    match issue.kind:
        case pb.ISSUE_KIND_OWED:
            refund = f" --refund {issue.reference}" if issue.reference else ""
            outside = (
                f"returned-outside {payment} --amount-minor {issue.amount_minor} --reference TRANSFER "
                f"--hold {shlex.quote(issue.hold)}{refund}"
            )
            made = [f"retry {payment} refund", outside]
        case pb.ISSUE_KIND_CALL:
            call = f"{payment} {operation_name(issue.operation)}"
            made = [
                f"retry {call} --attempt {issue.attempt}",
                f"resolve {call} --attempt {issue.attempt} --done",
                f"give-up {call} --attempt {issue.attempt}",
            ]
        case pb.ISSUE_KIND_SUSPENSE:
            made = [f"{verb} {payment} --hold {shlex.quote(issue.hold)}" for verb in ("approve-return", "keep")]
        case pb.ISSUE_KIND_ADJUSTMENT:
            made = [f"approve-adjustment {payment} {issue.reference}"]
        case pb.ISSUE_KIND_RETURNED_TWICE:
            made = [
                f"adjust {payment} --from adjustments --to merchant --amount-minor {issue.amount_minor} "
                f"--currency {issue.currency} --hold {shlex.quote(issue.hold)}"
            ]
        case _:
            return []
    return [f"{PROGRAM} {one} {REASON} --expected-version {issue.version}" for one in made]


def next_step(issue: pb.Issue) -> str:
    """The next step, with the exact command."""
    found = commands(issue)
    if not found:
        until = issue.next_attempt_time.ToDatetime().strftime("%Y-%m-%d %H:%M UTC") if _has_time(issue) else ""
        due = f" until {until}" if until else ""
        return f"submit the evidence of dispute {issue.reference} at the provider{due}"
    first, *others = [f"`{one}`" for one in found]
    return first if not others else f"{first}, or {', or '.join(others)}"


def _has_time(issue: pb.Issue) -> bool:
    return issue.HasField("next_attempt_time")
