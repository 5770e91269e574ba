"""Work that is open longer than it should be: since when, why, and what to do next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from groupbuy.payments.v1.operator_pb2 import Issue

from eventlog.records.topic_spec import service_of
from ops.repair.advice import KINDS, next_step
from ops.watch.folding.summary import OpenItem
from ops.watch.lag import Lags, PartitionLag
from shared_kernel import topics

_SPECS = {spec.name: spec for spec in topics.ALL}

#: The consumer group that works on each kind of item.
_WORKERS = {
    "deadline": topics.GROUPS_DECIDER,
    "settlement": topics.GROUPS_DECIDER,
    "order": topics.GROUPS_SEQUENCER,
    "hold": topics.PAYMENTS_DECIDER,
    "call": topics.PAYMENTS_EFFECTS,
    "release": topics.PAYMENTS_SEQUENCER,
    "refund": topics.PAYMENTS_DECIDER,
}

#: Reads the first record of a partition from a position on.
NextRecord = Callable[[str, int, int], Awaitable[Any]]


class Stuck(NamedTuple):
    """One piece of work. Times are in milliseconds since the epoch."""

    #: The kind of an OpenItem or of an issue, or partition, quarantine, service.
    kind: str
    group: str
    order: str
    #: The partition that stands still; empty and -1 for work of a group.
    topic: str
    partition: int
    #: When it began; 0: not known.
    since_ms: int
    #: Seconds since it should have been done.
    overdue_s: float
    why: str
    next_step: str


def overdue(items: Iterable[tuple[str, OpenItem]], now_ms: int, over_s: float) -> Iterator[Stuck]:
    """The items that should have been done more than `over_s` seconds ago."""
    for group, item in items:
        overdue_s = (now_ms - item.due_ms) / 1000
        if overdue_s > over_s:
            worker = _WORKERS[item.kind]
            next_step = f"`groupbuy-ops lag --group {worker}`, then `groupbuy-ops show group {group}`"
            yield Stuck(item.kind, group, item.order, "", -1, item.since_ms, overdue_s, item.why, next_step)


def attention(issues: Iterable[Issue], now_ms: int, over_s: float) -> Iterator[Stuck]:
    """The issues for which an operator has to act, or whose next step is more than `over_s` seconds late."""
    for issue in issues:
        _, group, _, order, _ = issue.payment.split("/")
        next_ms = issue.next_attempt_time.ToMilliseconds()
        overdue_s = max((now_ms - next_ms) / 1000, 0.0) if next_ms else 0.0
        if issue.alarm or overdue_s > over_s:
            why = f"{issue.amount_minor} {issue.currency}: {issue.reason}"
            yield Stuck(KINDS.get(issue.kind, "issue"), group, order, "", -1, 0, overdue_s, why, next_step(issue))


async def standing(lags: Lags, next_record: NextRecord, now_ms: int, over_s: float) -> list[Stuck]:
    """Groups without a member, and partitions whose next record waits for more than `over_s` seconds."""
    found: list[Stuck] = []
    for group, members in lags.members.items():
        waiting = [row for row in lags.of(group) if row.records and (row.seconds is None or row.seconds > over_s)]
        if not members:
            records = sum(row.records for row in lags.of(group))
            seconds = max((row.seconds or 0.0 for row in waiting), default=0.0)
            why = f"consumer group {group} has no member; {records} records wait"
            next_step = f"start the service {service_of(group)}; its last lines on standard error say why it ended"
            since_ms = now_ms - int(seconds * 1000) if waiting else 0
            found.append(Stuck("service", "", "", "", -1, since_ms, seconds, why, next_step))
            continue
        for row in waiting:
            found.append(await _standing(row, next_record, now_ms))
    return found


async def _standing(row: PartitionLag, next_record: NextRecord, now_ms: int) -> Stuck:
    at = max(row.position or 0, 0)
    record = await next_record(row.topic, row.partition, at)
    seconds = row.seconds or 0.0
    since_ms = 0 if row.seconds is None else now_ms - int(seconds * 1000)
    place = f"{row.group} in {row.topic} {row.partition}:{at}"
    if record is not None and (error := _undecodable(row.topic, record.value)):
        why = f"{place}: the next record can't be decoded ({error}), so the partition is quarantined"
        next_step = "`groupbuy-ops verify`; deploy the build that can decode it, or `groupbuy-ops skip` it"
        return Stuck("quarantine", "", "", row.topic, row.partition, since_ms, seconds, why, next_step)
    owner = f"owner {row.owner}" if row.owner else "no owner"
    why = f"{place}: {row.records} records wait, {owner}"
    next_step = f"the last log lines of {row.owner or service_of(row.group)}; `groupbuy-ops verify` checks the record"
    return Stuck("partition", "", "", row.topic, row.partition, since_ms, seconds, why, next_step)


def _undecodable(topic: str, value: bytes | None) -> str:
    """Why a value is no message of its topic; empty if it is one."""
    message = _SPECS[topic].message
    if message is None:
        return ""
    try:
        message.FromString(value or b"")
    except DecodeError as error:
        return str(error) or "no message of its type"
    return ""
