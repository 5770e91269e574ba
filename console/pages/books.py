"""The books: balances of the ledger, suspense, roots, reconciliation and invariants."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import grpc
from groupbuy.payments.v1.ledger_pb2 import GetBalancesRequest, GetBalancesResponse, LedgerAccount
from groupbuy.payments.v1.payments_pb2_grpc import PaymentServiceStub

from console.live.board import Board
from console.live.services import CALL_S, Services
from console.pages.live import held_minor
from console.web.channel import Channel
from console.web.templates import fragment
from eventlog.runtime.wall_clock import wall_clock_ms
from ops.audit.findings import TITLES, Invariant

log = logging.getLogger(__name__)

_MACROS = "books_macros.html"
#: Invariants that another command checks, with that command.
_ELSEWHERE = {
    Invariant.REPLAY: "checked by groupbuy-ops replay",
    Invariant.ACKNOWLEDGED_IS_LOGGED: "checked by clients that kept their orders",
}


class InvariantRow(NamedTuple):
    """An invariant and its state."""

    number: int
    title: str
    #: good, bad or empty.
    tone: str
    state: str
    first: str


class BooksChannel(Channel):
    """The page Books."""

    def __init__(self, board: Board, services: Services, roots: Path | None) -> None:
        super().__init__()
        self._board = board
        self._services = services
        self._roots = roots
        self._balances: GetBalancesResponse | None = None
        self._why = ""

    async def prepare(self) -> None:
        """Reads the ledger's balances."""
        stub = PaymentServiceStub(self._services.channel("payments"))
        try:
            self._balances = await stub.GetBalances(GetBalancesRequest(), timeout=CALL_S)
            self._why = ""
        except grpc.aio.AioRpcError as error:
            # The page keeps the last balances and says that they are old.
            self._why = f"the payments service does not answer ({error.code().name})"
            log.warning("the balances can't be read: %s", error.code().name)
        self.update()

    def refresh(self) -> None:
        """Sets all parts."""
        view = self._board.view
        totals = view.totals
        self.set_part("away", self._services.notice())
        self.set_part("balances", fragment(_MACROS, "balances", list(self._accounts()), self._turnover(), self._why))
        rows = [
            (
                currency,
                one.held,
                one.captured,
                one.voided + one.lapsed,
                held_minor(one),
                one.refunded,
                one.suspense,
                one.owed,
            )
            for currency, one in sorted(totals.money.items())
        ]
        self.set_part("flows", fragment(_MACROS, "flows", rows))
        compared = sorted(view.compared, key=lambda one: one.provider)
        self.set_part("checks", fragment(_MACROS, "checks", last_root(self._roots), compared))
        self.set_part("invariants", fragment(_MACROS, "invariants", list(self._invariants()), totals.records))

    def _accounts(self) -> Iterator[tuple[str, str, int, int, int]]:
        """Account, currency, debits, credits and balance."""
        for one in self._balances.balances if self._balances is not None else ():
            name = LedgerAccount.Name(one.account).removeprefix("LEDGER_ACCOUNT_").lower()
            yield name, one.currency, one.debits_minor, one.credits_minor, one.balance_minor

    def _turnover(self) -> list[tuple[str, int, int]]:
        found = self._balances.totals if self._balances is not None else ()
        return [(one.currency, one.debits_minor, one.credits_minor) for one in found]

    def _invariants(self) -> Iterator[InvariantRow]:
        view = self._board.view
        totals = view.totals
        violations, unbalanced = totals.violations, list(totals.unbalanced())
        differences = sum(one.differences for one in view.compared)
        for invariant, title in TITLES.items():
            number, count = int(invariant), violations.get(int(invariant), 0)
            first = totals.first.get(number, "")
            if invariant is Invariant.BALANCED:
                count += len(unbalanced)
            if invariant is Invariant.PIECES:
                count += sum(1 for _ in totals.unequal_pieces(wall_clock_ms()))
            if invariant is Invariant.BOOKS_EQUAL:
                count += differences
            if count:
                yield InvariantRow(number, title, "bad", f"{count} violations", first)
            elif invariant in _ELSEWHERE:
                yield InvariantRow(number, title, "", _ELSEWHERE[invariant], "")
            elif invariant is Invariant.BOOKS_EQUAL and not view.compared:
                yield InvariantRow(number, title, "", "no statement was compared yet", "")
            elif not view.complete:
                yield InvariantRow(number, title, "", "reading the logs", "")
            else:
                yield InvariantRow(number, title, "good", "holds", "")


def last_root(file: Path | None) -> tuple[int, int] | None:
    """When the file of roots was written, in milliseconds since the epoch, and its number of roots; None: no file."""
    if file is None:
        return None
    try:
        return int(file.stat().st_mtime * 1000), _roots_in(file, file.stat().st_mtime_ns)
    except (OSError, ValueError) as error:
        log.warning("%s can't be read: %s", file, error)
        return None


@lru_cache(maxsize=1)
def _roots_in(file: Path, _written: int) -> int:
    """The number of roots; the file is read again only after it was written again."""
    content = json.loads(file.read_text(encoding="utf-8"))
    return len(content.get("roots", ())) if isinstance(content, dict) else 0
