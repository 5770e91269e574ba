"""Follows what the watch folds, and keeps what the live page shows: forming groups, endings, live rooms."""

from __future__ import annotations

import heapq
import hmac
import secrets
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, SeatReserved
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_LIVE_ROOM
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from console.live.reports import ROOM_MS, Card, Ending, Report, Room
from ops.audit.cases import Case
from ops.audit.group.membership import GroupState
from ops.watch.folding.incremental import IncrementalAudit
from ops.watch.worker import Progress
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_LOG

#: Records of each log that are kept while the first round reads the history: the newest endings are in them.
_KEPT_RECORDS = 3_000
_MAX_ENDINGS = 40
#: Cards of forming groups that the first round makes, those of the next deadlines. Another group gets its card when it
#: changes.
MAX_CARDS = 20_000
_MAX_CLOSED = 10_000
_MAX_JOINS = 20
_MAX_ROOMS = 12
_LOGS = frozenset({ORDERS.name, GROUP_LOG.name, PAYMENT_LOG.name})


class LiveObserver:
    """An observer of the watch's worker (ops.watch.worker.Observer)."""

    def __init__(self) -> None:
        #: Labels of live rooms can't be traced back to the customer who runs one.
        self._salt = secrets.token_bytes(16)
        self._forget()

    def _forget(self) -> None:
        self._history: dict[str, deque[Any]] = {
            name: deque(maxlen=_KEPT_RECORDS) for name in (GROUP_LOG.name, PAYMENT_LOG.name)
        }
        self._caught_up = False
        self._changed: set[str] = set()
        self._touched: set[str] = set()
        #: Groups with a card, all that are forming, and the newest that were closed.
        self._forming: set[str] = set()
        self._forming_count = 0
        self._closed: dict[str, None] = {}
        self._versions: dict[str, int] = {}
        self._joins: dict[str, deque[int]] = {}
        self._rooms_of: dict[str, Counter[str]] = {}
        self._seats_of_room: dict[str, deque[tuple[int, str]]] = {}
        #: Campaigns of the groups with seats of live rooms, and the rooms of closed groups.
        self._campaigns: dict[str, str] = {}
        self._room_of_closed: dict[str, str] = {}
        self._endings: list[tuple[str, str, int, dict[str, Any]]] = []
        self._rooms_changed = False
        self._pending = Report(Progress(0, 0, 0, 0, None), reset=True)

    # --- ops.watch.worker.Observer -----------------------------------------------------------------------------------

    def opened(self, audit: IncrementalAudit) -> None:
        """The state is open: the forming groups are read from it after the first round."""
        self._forget()

    def took(self, topic: str, records: Sequence[Any]) -> None:
        """Records of one partition are folded."""
        if topic not in _LOGS:
            return
        if not self._caught_up:
            if topic in self._history:
                self._history[topic].extend(records[-_KEPT_RECORDS:])
            return
        for record in records:
            key = (record.key or b"").decode(errors="replace")
            self._touched.add(key)
            self._take(topic, key, record)

    def ended_round(self, audit: IncrementalAudit) -> None:
        """A round is complete: the changed groups become cards."""
        if not self._caught_up:
            self._caught_up = True
            for topic, kept in self._history.items():
                for record in kept:
                    self._take(topic, (record.key or b"").decode(errors="replace"), record)
            self._history.clear()
            self._changed = set(self._scan(audit))
        report = self._pending
        for key in self._changed:
            self._add_card(report, key, audit.cases.get(key))
        self._changed.clear()
        report.endings.extend(self._ended(audit))
        report.touched.extend(self._touched)
        report.forming = self._forming_count
        self._touched.clear()
        if self._rooms_changed:
            report.rooms = self._rooms(audit)
            self._rooms_changed = False

    def _scan(self, audit: IncrementalAudit) -> Iterator[str]:
        """The forming groups with the next deadlines, as of the first round. Counts all."""
        self._forming_count = 0
        self._closed.clear()

        def deadlines() -> Iterator[tuple[int, str]]:
            for key, item in audit.open_items():
                if item.kind == "deadline":
                    self._forming_count += 1
                    yield item.due_ms, key

        for _, key in heapq.nsmallest(MAX_CARDS, deadlines()):
            yield key

    # --- what the console gets ---------------------------------------------------------------------------------------

    def drain(self, progress: Progress) -> Report:
        """The changes since the last call, with the progress of the worker."""
        report, self._pending = self._pending, Report(progress, forming=self._forming_count)
        report.progress = progress
        return report

    def _add_card(self, report: Report, key: str, case: Case | None) -> None:
        group = case.group if case is not None else None
        if group is None or group.terms is None or group.state is not GroupState.FORMING or group.terms.solo:
            if key in self._forming:
                report.gone.append(key)
            self._forming.discard(key)
            for table in (self._versions, self._joins, self._rooms_of):
                table.pop(key, None)
            return
        self._forming.add(key)
        terms = group.terms
        report.cards.append(
            Card(
                key,
                terms.campaign,
                terms.product,
                terms.currency,
                terms.solo_price_minor,
                tuple((tier.members, tier.unit_price_minor) for tier in terms.tiers),
                terms.capacity,
                len(group.confirmed),
                group.taken,
                group.deadline_ms - terms.window_ms,
                group.deadline_ms,
                group.chain.version,
                tuple(self._joins.get(key, ())),
                self._room_of(key),
            )
        )

    def _ended(self, audit: IncrementalAudit) -> Iterator[Ending]:
        """The newest endings, the oldest first."""
        self._endings.sort(key=lambda one: one[2])
        for kind, key, at_ms, fields in self._endings[-_MAX_ENDINGS:]:
            case = audit.cases.get(key)
            terms = case.group.terms if case is not None else None
            if terms is not None and not terms.solo:
                currency = fields.pop("currency", "") or terms.currency
                room = self._room_of_closed.get(key, "") or self._room_of(key)
                yield Ending(kind, key, terms.campaign, terms.product, at_ms, currency=currency, room=room, **fields)
        self._endings.clear()

    def _room_of(self, key: str) -> str:
        """The live room that brought most seats of a group."""
        rooms = self._rooms_of.get(key)
        return rooms.most_common(1)[0][0] if rooms else ""

    def _rooms(self, audit: IncrementalAudit) -> list[Room]:
        """The newest live rooms, a row for each of their campaigns."""
        newest = sorted(self._seats_of_room.items(), key=lambda one: -one[1][-1][0])
        for label, _ in newest[_MAX_ROOMS:]:
            del self._seats_of_room[label]
        found, groups = [], set()
        for label, seats in newest[:_MAX_ROOMS]:
            newest_ms = seats[-1][0]
            while seats[0][0] < newest_ms - ROOM_MS:
                seats.popleft()
            by_campaign: dict[str, list[tuple[int, str]]] = {}
            for at_ms, key in seats:
                by_campaign.setdefault(self._campaign_of(audit, key), []).append((at_ms, key))
            for campaign, some in by_campaign.items():
                keys = {key for _, key in some}
                groups |= keys
                found.append(Room(label, campaign, len(some), len(keys), some[-1][0]))
        self._campaigns = {key: name for key, name in self._campaigns.items() if key in groups}
        return found

    def _campaign_of(self, audit: IncrementalAudit, key: str) -> str:
        known = self._campaigns.get(key)
        if known is None:
            case = audit.cases.get(key)
            terms = case.group.terms if case is not None else None
            known = self._campaigns[key] = terms.campaign if terms is not None else ""
        return known

    # --- single records ----------------------------------------------------------------------------------------------

    def _take(self, topic: str, key: str, record: Any) -> None:
        try:
            if topic == GROUP_LOG.name:
                self._group(key, GroupDecision.FromString(record.value or b""))
            elif topic == PAYMENT_LOG.name:
                self._payments(key, PaymentDecision.FromString(record.value or b""))
        except DecodeError:
            # The audit counts it.
            return

    def _group(self, key: str, decision: GroupDecision) -> None:
        self._changed.add(key)
        if decision.version <= self._versions.get(key, 0):
            return
        self._versions[key] = decision.version
        at_ms = decision.time_ms
        for event in decision.events:
            body = event.WhichOneof("body")
            if body == "opened":
                self._forming_count += 1
            elif body in {"completed", "expired", "cancelled"}:
                self._count_closed(key)
            match body:
                case "seat_reserved":
                    self._seat(key, event.seat_reserved, at_ms)
                case "completed":
                    done = event.completed
                    self._end("completed", key, at_ms, members=len(done.orders), amount_minor=done.unit_price_minor)
                case "settled":
                    members = event.settled.settled + event.settled.declined
                    self._end("settled", key, at_ms, members=members, amount_minor=event.settled.captured_minor)
                case "expired":
                    self._end("expired", key, at_ms, members=event.expired.members)
                case "cancelled":
                    self._end("cancelled", key, at_ms, what=event.cancelled.reason)
                case "faulted":
                    self._end("rules failed", key, at_ms, what=event.faulted.error)

    def _payments(self, key: str, decision: PaymentDecision) -> None:
        for event in decision.events:
            match event.WhichOneof("body"):
                case "hold_declined":
                    self._end("declined", key, decision.time_ms, what=f"hold: {event.hold_declined.reason}")
                case "capture_declined":
                    self._end("declined", key, decision.time_ms, what=f"capture: {event.capture_declined.reason}")
                case "refund_declined":
                    self._end("declined", key, decision.time_ms, what=f"refund: {event.refund_declined.reason}")
                case "suspense_recorded":
                    found = event.suspense_recorded
                    self._end(
                        "unexpected funds",
                        key,
                        decision.time_ms,
                        amount_minor=found.amount_minor,
                        currency=found.currency,
                        what=found.reason,
                    )
                case "faulted":
                    self._end("rules failed", key, decision.time_ms, what=event.faulted.error)

    def _count_closed(self, key: str) -> None:
        """A group closed."""
        if key not in self._closed:
            self._closed[key] = None
            if room := self._room_of(key):
                self._room_of_closed[key] = room
                while len(self._room_of_closed) > _MAX_CLOSED:
                    del self._room_of_closed[next(iter(self._room_of_closed))]
            self._forming_count = max(0, self._forming_count - 1)
            while len(self._closed) > _MAX_CLOSED:
                del self._closed[next(iter(self._closed))]

    def _end(self, kind: str, key: str, at_ms: int, **fields: Any) -> None:
        self._endings.append((kind, key, at_ms, fields))

    def _seat(self, key: str, event: SeatReserved, at_ms: int) -> None:
        self._joins.setdefault(key, deque(maxlen=_MAX_JOINS)).append(at_ms)
        if event.invitation.channel == SHARE_CHANNEL_LIVE_ROOM:
            label = hmac.digest(self._salt, event.invitation.inviter.encode(), "sha256").hex()[:4].upper()
            self._rooms_of.setdefault(key, Counter())[label] += 1
            self._seats_of_room.setdefault(label, deque(maxlen=10_000)).append((at_ms, key))
            self._rooms_changed = True
