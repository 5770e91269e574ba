"""Evenings of the demo for tests of its tables and views: hand-written logs, and logs of the simulated system."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops.audit.auditor import Auditor
from ops.audit.report import Report
from ops.demo.board import TOPICS, Board
from ops.demo.offers import OFFERS
from ops.demo.screen.view import ServiceState
from ops.terminal.rich_console import SafeConsole
from ops.terminal.streams import SIMILAR
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG
from tests.unit.ops import simulated_system
from tests.unit.ops.scripted_logs import ScriptedLogs
from tests.unit.ops.simulated_system import START_MS, SimulatedSystem


@dataclass
class Services:
    """Two processes, one of them down."""

    def states(self) -> Mapping[str, ServiceState]:
        return {"orders": ServiceState(True, 17, 0), "groups": ServiceState(False, 18, 2)}


def scripted_board(logs: ScriptedLogs) -> Board:
    """As in a real run: duplicates, and the two topics interleaved."""
    made = Board({"mug": "Ceramic mug"})
    made.take(PAYMENT_LOG.name, logs.payments[:3])
    made.take(GROUP_LOG.name, logs.groups)
    made.take(GROUP_LOG.name, logs.groups[-1:])
    made.take(PAYMENT_LOG.name, logs.payments[3:])
    return made


@dataclass
class SimulatedEvening:
    """All records of an evening without refund commands, which the demo does not send either."""

    system: SimulatedSystem

    @classmethod
    def of(cls, orders: int, seed: int, directory: Path) -> SimulatedEvening:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(simulated_system, "REFUNDED", 0.0)
            system = SimulatedSystem(orders, seed, directory)
            system.run()
        return cls(system)

    def board(self, until_s: float | None = None) -> Board:
        """The state after so many seconds, or at the end."""
        made = Board({offer.id: offer.title for offer in OFFERS})
        for topic in TOPICS:
            records = self.system.topics[topic]
            made.take(topic, [r for r in records if until_s is None or r.timestamp <= START_MS + until_s * 1000])
        return made

    def report(self) -> Report:
        """The audit of the same records."""
        auditor = Auditor()
        for topic in (PAYMENT_LOG, PAYMENT_INBOX, GROUP_LOG, ORDERS):
            auditor.take(topic.name, self.system.topics[topic.name])
        return auditor.report(settled=True, entries=self.system.entries())


def console(width: int, height: int = 50, encoding: str = "utf-8") -> SafeConsole:
    """A terminal of this size that writes to memory."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=SIMILAR, write_through=True)
    return SafeConsole(file=file, width=width, height=height)


def printed(made: SafeConsole) -> str:
    """All that was printed on it."""
    file = made.file
    assert isinstance(file, io.TextIOWrapper)
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(file.encoding)


@dataclass
class Table:
    """A printed table: the cells of each row by heading."""

    rows: list[dict[str, str]] = field(default_factory=list)
    totals: list[dict[str, str]] = field(default_factory=list)

    def minor(self, heading: str, currency: str) -> int:
        """The sum of the rows' amounts of a currency."""
        return sum(minor(row[heading], currency) for row in self.rows)


def tables(text: str) -> dict[str, Table]:
    """The tables of a text by title. The line below the headings gives the columns."""
    lines = text.splitlines()
    found: dict[str, Table] = {}
    for at, line in enumerate(lines):
        if at < 2 or not re.fullmatch("─[─ ]*", line) or not lines[at - 2].strip() or "─" in lines[at - 2]:
            continue
        spans = [match.span() for match in re.finditer("─+", line)]
        heads = [lines[at - 1][begin:end].strip() for begin, end in spans]
        table = found[lines[at - 2].strip()] = Table()
        target = table.rows
        for row in lines[at + 1 :]:
            if not row.strip():
                break
            if row == line:
                target = table.totals
                continue
            cells = [row[begin:end].strip() for begin, end in spans]
            target.append(dict(zip(heads, cells, strict=True)))
    return found


def minor(cell: str, currency: str) -> int:
    """An amount as printed, in minor units; 0 for a dash, an empty cell and another currency."""
    sign = {"CNY": "¥", "JPY": "JP¥"}[currency]
    match = re.fullmatch(rf"(-?){sign}([\d,]+)(?:\.(\d\d))?", cell)
    if match is None:
        return 0
    number = int(match[2].replace(",", "")) * (100 if currency == "CNY" else 1) + int(match[3] or 0)
    return -number if match[1] else number


def has_control_characters(text: str) -> bool:
    """Whether a text has more than printable characters and line feeds."""
    return any(unicodedata.category(char) == "Cc" and char != "\n" for char in text)
