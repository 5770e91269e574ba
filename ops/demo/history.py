"""The history of one evening as a file: records, counts and states of processes, in the order in which they were seen.

The pictures in docs/ and the tests of the view render it without a broker. Format: gzip of JSON lines, first `Header`,
then one `Frame` for each redrawing of the view.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ops.demo.board import Board
from ops.demo.plan import plan
from ops.demo.player import Tally
from ops.demo.screen.view import ServiceState, View

_COUNTS = ("placed", "retries", "duplicates", "cancelled", "too_late_to_cancel")


@dataclass(frozen=True, slots=True)
class Header:
    """The script of the evening, and its start in seconds since the epoch."""

    orders: int
    seed: int
    titles: Mapping[str, str]
    started_s: float


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a decision log."""

    key: bytes
    value: bytes


@dataclass(slots=True)
class Frame:
    """The changes since the frame before. `at_s` is in seconds since the epoch."""

    at_s: float
    stage: str
    incident: str
    counts: Mapping[str, int]
    answers: Mapping[str, int]
    #: (up, process id, restarts) by process.
    services: Mapping[str, tuple[bool, int, int]]
    #: (topic, key, value in base64).
    records: list[tuple[str, str, str]] = field(default_factory=list)


class Recorder:
    """Collects the frames of a running evening, and writes them."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._records: list[tuple[str, str, str]] = []

    def take(self, topic: str, records: Iterable[Any]) -> None:
        """Takes the records that the view's board takes."""
        self._records += [(topic, r.key.decode(), base64.b64encode(r.value).decode()) for r in records]

    def frame(self, view: View) -> None:
        """Adds a frame with the records since the last one."""
        services = {name: (s.up, s.pid, s.restarts) for name, s in view.services.states().items()}
        counts = {name: getattr(view.tally, name) for name in _COUNTS}
        answers, records = dict(view.tally.answers), self._records
        self._records = []
        self._frames.append(Frame(view.now_s(), view.stage, view.incident, counts, answers, services, records))

    def write(self, path: Path, view: View) -> None:
        """Writes all frames, and the records after the last one as a frame."""
        self.frame(view)
        header = Header(view.evening.orders, view.evening.seed, view.board.titles, view.started_s)
        lines = [json.dumps(asdict(header)), *(json.dumps(asdict(frame)) for frame in self._frames)]
        # Without the time of writing: the same history makes the same bytes.
        path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


@dataclass(slots=True)
class Recorded:
    """The states of processes of the last frame."""

    frame: Frame | None = None

    def states(self) -> Mapping[str, ServiceState]:
        """The states by name."""
        services = self.frame.services if self.frame else {}
        return {name: ServiceState(*state) for name, state in services.items()}


def replay(path: Path) -> Iterator[View]:
    """The view after each frame. All frames share one view, so render it before the next one."""
    first, *rest = gzip.decompress(path.read_bytes()).decode().splitlines()
    header = Header(**json.loads(first))
    board, tally, services = Board(dict(header.titles)), Tally(), Recorded()
    view = View(plan(header.orders, header.seed), board, tally, services, started_s=header.started_s)
    view.now_s = lambda: services.frame.at_s if services.frame else header.started_s
    for line in rest:
        frame = services.frame = Frame(**json.loads(line))
        for topic, key, value in frame.records:
            board.take(topic, [Record(key.encode(), base64.b64decode(value))])
        for name, count in frame.counts.items():
            setattr(tally, name, count)
        tally.answers.clear()
        tally.answers.update(frame.answers)
        view.stage, view.incident = frame.stage, frame.incident
        yield view
