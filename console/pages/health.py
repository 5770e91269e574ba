"""Health: who reads what and how far behind, what each provider holds, and what an operator has to know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from console.live.board import Board
from console.live.checkpoints import Checkpoints
from console.live.services import Services
from console.pages.alerts import ALERT_S, alerts
from console.web.channel import Channel
from console.web.templates import fragment
from eventlog.records.topic_spec import service_of
from ops.watch.folding.totals import first_ms
from ops.watch.lag import PartitionLag

#: Lag in seconds from which a partition is late.
LATE_S = 2.0
_MACROS = "health_macros.html"


class Reader(NamedTuple):
    """A consumer group on one topic."""

    group: str
    topic: str
    members: int
    records: int
    seconds: float
    #: Seconds since the oldest change that no checkpoint has; None: not known.
    checkpoint_s: float | None
    cells: list[tuple[PartitionLag, str]]


class HealthChannel(Channel):
    """The page Health."""

    def __init__(self, board: Board, services: Services, checkpoints: Checkpoints) -> None:
        super().__init__()
        self._board = board
        self._services = services
        self._checkpoints = checkpoints

    async def prepare(self) -> None:
        """Reads the age of the checkpoints."""
        await self._checkpoints.read()
        self.update()

    def refresh(self) -> None:
        """Sets all parts."""
        self.set_part("away", self._services.notice())
        self.set_part("alerts", fragment(_MACROS, "alerts", list(alerts(self._board.view, self._services.serving))))
        self.set_part("readers", fragment(_MACROS, "readers", list(self._readers())))
        self.set_part("providers", fragment(_MACROS, "providers", self._providers()))

    def _readers(self) -> Iterator[Reader]:
        lags = self._board.view.lags
        found: dict[tuple[str, str], list[PartitionLag]] = {}
        for row in lags.rows:
            found.setdefault((row.group, row.topic), []).append(row)
        for (group, topic), rows in sorted(found.items(), key=lambda one: (service_of(one[0][0]), one[0])):
            cells = [(row, _tone(row)) for row in rows]
            seconds = max((row.seconds or 0.0 for row in rows), default=0.0)
            records, age_s = sum(row.records for row in rows), self._checkpoints.ages_s.get(group)
            yield Reader(group, topic, lags.members.get(group, 0), records, seconds, age_s, cells)

    def _providers(self) -> list[tuple[str, int, int | None]]:
        """Provider, number of open holds, and when the first one lapses."""
        lapses = self._board.view.totals.lapses
        return [
            (name, sum(count for count, _ in minutes.values()), first_ms(minutes))
            for name, minutes in sorted(lapses.items())
        ]


def _tone(row: PartitionLag) -> str:
    seconds = row.seconds or 0.0
    if not row.owner:
        return "bad"
    return "bad" if seconds > ALERT_S else "warn" if seconds > LATE_S else "good"
