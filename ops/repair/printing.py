"""Prints issues and repairs."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict
from groupbuy.payments.v1 import operator_pb2 as pb
from rich.table import Table

from ops.log.rendering.describe import day_and_clock
from ops.log.rendering.tokens import without_tokens
from ops.repair.advice import KINDS, commands, next_step
from ops.terminal.amounts import amount
from ops.terminal.output import Output

#: Rows of a table.
MAX_SHOWN = 100


def print_issues(out: Output, issues: list[pb.Issue]) -> None:
    """A table, or one JSON object for each issue and the counts in the last line."""
    for one in issues:
        out.record(issue_record(one))
    if not issues:
        out.line("nothing is owed, stuck, in suspense or in dispute")
        return
    table = Table(title=f"{len(issues):,} issues", title_justify="left", show_lines=True)
    for column in ("", "payment", "amount", "why", "next", "what to do"):
        table.add_column(column, overflow="fold")
    for one in issues[:MAX_SHOWN]:
        kind = KINDS.get(one.kind, "unknown") + (" !" if one.alarm else "")
        sum_ = amount(one.amount_minor, one.currency)
        table.add_row(kind, one.payment, sum_, one.reason, next_time(one), next_step(one))
    out.show(table)
    if len(issues) > MAX_SHOWN:
        out.line(f"and {len(issues) - MAX_SHOWN:,} more")


def issue_record(issue: pb.Issue) -> dict[str, Any]:
    """An issue as JSON. Times are in milliseconds since the epoch; 0: nothing follows by itself."""
    return {
        "kind": KINDS.get(issue.kind, "unknown"),
        "payment": issue.payment,
        "amount_minor": issue.amount_minor,
        "currency": issue.currency,
        "reason": issue.reason,
        "alarm": issue.alarm,
        "next_ms": issue.next_attempt_time.ToMilliseconds(),
        "hold": issue.hold,
        "reference": issue.reference,
        "version": issue.version,
        "commands": commands(issue),
    }


def next_time(issue: pb.Issue) -> str:
    """When the next step follows by itself."""
    return day_and_clock(issue.next_attempt_time.ToMilliseconds()) if issue.HasField("next_attempt_time") else "never"


def print_repair(out: Output, repair: pb.Repair, *, dry_run: bool) -> None:
    """The decision, made or previewed."""
    action = repair.action.WhichOneof("action") or ""
    out.record(
        {
            "request_id": repair.request_id,
            "operator": repair.operator,
            "action": action,
            "refusal": repair.refusal,
            "version": repair.payment.version,
            "done": not dry_run,
            "events": [event_record(one) for one in repair.preview],
        }
    )
    if not dry_run:
        out.line(f"{action.replace('_', ' ')}: done as {repair.operator}, request id {repair.request_id}")
        out.line(f"  {repair.payment.name} has version {repair.payment.version}")
        return
    if repair.refusal:
        out.line(f"the rules would refuse it: {repair.refusal}")
    for one in repair.preview:
        content = ", ".join(f"{name} {value}" for name, value in event_record(one).items() if name != "event")
        out.line(f"  {one.WhichOneof('body')}: {content}")
    out.line("nothing recorded: this was a dry run")


def event_record(event: Any) -> dict[str, Any]:
    """An event of a preview as JSON."""
    kind = event.WhichOneof("body") or ""
    content = MessageToDict(without_tokens(getattr(event, kind)), preserving_proto_field_name=True) if kind else {}
    return {"event": kind, **content}
