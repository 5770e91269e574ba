"""A group's story, and the story of one payment: the log in plain words, live until all is settled."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka.errors import KafkaError

from console.live.board import Board, now_ms
from console.live.ladder import ladder_of
from console.pages.story_lines import provider_calls, story_lines
from console.web.channel import Channel
from console.web.templates import fragment
from eventlog.core.partitioner import partition_of
from ops.audit.across import Scope
from ops.audit.cases import Case
from ops.audit.findings import Findings
from ops.audit.fold import LogFold
from ops.audit.group.membership import GroupState
from ops.audit.money.status import status_of
from ops.errors import OpsError
from ops.log.history import HISTORY, Entry, lines, read_more
from ops.log.reader import Reader
from ops.log.rendering.anonymous import anonymous
from ops.log.rendering.describe import clock, short
from ops.watch.folding.summary import OpenItem, Summary, summarise
from shared_kernel.topics import ORDERS

log = logging.getLogger(__name__)

#: Lines on the page: the newest ones.
MAX_LINES = 2_000
#: The logs of the services are read from this long before the group was opened.
_MARGIN_MS = 600_000
_MACROS = "story_macros.html"


class StoryChannel(Channel):
    """The story of a group, or of one of its orders."""

    def __init__(self, kafka: str, board: Board, key: str, order: str | None = None) -> None:
        super().__init__()
        self._kafka = kafka
        self._board = board
        self.key = key
        self.order = order
        self._entries: list[Entry] = []
        self._case = Case(key, Findings())
        self._fold = LogFold(lambda _: self._case, Findings())
        self._reader: Reader | None = None
        self._reading = asyncio.Lock()
        self._stop_listening: Any = None
        self._following: asyncio.Task[None] | None = None
        #: Whether there are records that were not read.
        self._stale = False

    @property
    def found(self) -> bool:
        """Whether the log has the group, or the order."""
        return any(entry.lines(self.order) for entry in self._entries)

    async def prepare(self) -> None:
        """Reads the log up to its present end. Raises KafkaError, OpsError and OSError."""
        async with self._reading:
            if self._reader is None:
                await self._open()
            await self._read()
        if self._stop_listening is None:
            self._stop_listening = self._board.on_touch(self.key, self._on_touch)
        self.update()

    async def _open(self) -> None:
        async with Reader(self._kafka, [ORDERS.name]) as finder:
            partition = partition_of(self.key, finder.partitions(ORDERS.name))
        reader = Reader(self._kafka, [spec.name for spec in HISTORY], [partition])
        await reader.__aenter__()
        card = self._board.cards.get(self.key)
        if card is not None:
            # Its log begins when it was opened, so the rest of the partition is left out.
            await reader.seek_to_time(card.opened_ms - _MARGIN_MS)
        self._reader = reader

    async def _read(self) -> None:
        assert self._reader is not None
        for entry in await read_more(self._reader, self.key, self._entries):
            self._fold.take(entry.spec.name, [entry.record])

    def _on_touch(self) -> None:
        self._stale = True
        if self._following is None or self._following.done():
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        while self._stale:
            self._stale = False
            async with self._reading:
                if self._reader is None:
                    return
                try:
                    await self._read()
                except (KafkaError, OpsError, OSError) as error:
                    log.warning("the story of %s can't be read: %s", self.key, error)
                    return
            self.touch(1)

    async def close(self) -> None:
        """Closes the connections."""
        await super().close()
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        self._stale = False
        async with self._reading:
            reader, self._reader = self._reader, None
            if reader is not None:
                await reader.__aexit__(None, None, None)

    # --- content -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Sets all parts and lists."""
        shown = list(lines(anonymous(self._entries), self.order))
        summary, _ = summarise(self._case, Scope(False, True, False))
        left_out = max(0, len(shown) - MAX_LINES)
        self.set_part("state", self._state(summary))
        self.set_part("waiting", fragment(_MACROS, "waiting", self._waiting(summary), now_ms()))
        self.set_part("money", fragment(_MACROS, "money", self._money(summary)))
        self.set_part("left-out", fragment(_MACROS, "left_out", left_out, self.command))
        if self.order is not None:
            self.set_part("calls", fragment(_MACROS, "calls", provider_calls(shown)))
        found = story_lines(shown[left_out:])
        link = self.order is None
        self.set_list("lines", [(one.key, fragment(_MACROS, "line", one, self.key if link else "")) for one in found])

    @property
    def command(self) -> str:
        """The command that prints the same lines."""
        if self.order is None:
            return f"groupbuy-ops show group groups/{self.key} --anonymous"
        return f"groupbuy-ops show order groups/{self.key}/orders/{self.order} --anonymous"

    @property
    def title(self) -> str:
        """The title of the page."""
        terms = self._case.group.terms
        product = terms.product if terms is not None else "unknown product"
        return product if self.order is None else f"Payment {short(self.order)} · {product}"

    def _state(self, summary: Summary) -> str:
        group = self._case.group
        state = "settled" if group.settled else GroupState(group.state).name.lower()
        view = None
        if group.terms is not None and group.terms.tiers:
            tiers = [(tier.members, tier.unit_price_minor) for tier in group.terms.tiers]
            members = len(group.members or group.confirmed)
            view = ladder_of(
                tiers, group.terms.solo_price_minor, group.terms.capacity, members, max(members, group.taken)
            )
        payment = self._case.group_payments.payments.get(self.order) if self.order else None
        status = status_of(payment).replace("_", " ").lower() if payment is not None else ""
        return fragment(_MACROS, "state", group, state, view, status, self.order or "", summary.kept_price_minor)

    def _money(self, summary: Summary) -> list[tuple[str, int, int, int, int, int]]:
        """Currency, held, captured, released, refunded and owed."""
        if self.order is None:
            return [
                (currency, one.held, one.captured, one.voided + one.lapsed, one.refunded, one.owed)
                for currency, one in sorted(summary.money.items())
            ]
        payment = self._case.group_payments.payments.get(self.order)
        rows: dict[str, list[int]] = {}
        for hold in payment.holds.values() if payment is not None else ():
            row = rows.setdefault(hold.currency, [0, 0, 0, 0, 0])
            for index, minor in enumerate((hold.held, hold.captured, hold.released, hold.refunded)):
                row[index] += minor
        if payment is not None and payment.owed:
            rows.setdefault(payment.currency, [0, 0, 0, 0, 0])[4] += payment.owed
        return [(currency, row[0], row[1], row[2], row[3], row[4]) for currency, row in sorted(rows.items())]

    def _waiting(self, summary: Summary) -> list[tuple[str, int, bool]]:
        """The pending work: why and since when it waits, and whether it is overdue."""
        at_ms = now_ms()
        found = [item for item in summary.items if self.order in {None, item.order}]
        found.sort(key=lambda item: item.since_ms)
        return [(_words(item, at_ms), item.since_ms, item.due_ms < at_ms - 1_000) for item in found[:20]]


def _words(item: OpenItem, at_ms: int) -> str:
    order = f"{short(item.order)}: " if item.order else ""
    if item.due_ms > at_ms:
        if item.kind == "deadline":
            return f"the group forms until {clock(item.due_ms)} UTC"
        if item.kind == "order":
            return f"{order}has a seat until {clock(item.due_ms)} UTC, its money is not held yet"
        if item.kind == "call":
            return f"{order}{item.why}; the shopper has time until {clock(item.due_ms)} UTC"
    return f"{order}{item.why}"
