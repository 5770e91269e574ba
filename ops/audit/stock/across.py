"""Checks of the pieces and allowances of all groups across their logs: leases against grants, returns and sales against
what groups gave back and sold, and admissions against the limits of the terms.

The logs of groups and of the inventory cause each other. A cause that is missing is pending work, unless everything has
to be settled; a difference between two records is always a violation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ops.audit.cases import Case
from ops.audit.findings import Findings, Invariant
from ops.audit.group.membership import GroupState
from ops.audit.group.pieces import Sent, Supply
from ops.audit.group.seats import SeatState
from ops.audit.stock.allowances import Admission, AllowanceFold
from ops.audit.stock.items import Heard, StockFold


class AcrossStock:
    """The checks of all stock items and allowances."""

    def __init__(
        self,
        cases: Mapping[str, Case],
        stocks: Mapping[str, StockFold],
        allowances: Mapping[str, AllowanceFold],
        findings: Findings,
        *,
        settled: bool,
    ) -> None:
        """With `settled`, pending work is a violation."""
        self._cases = cases
        self._stocks = stocks
        self._allowances = allowances
        self._findings = findings
        self._settled = settled

    def check(self) -> None:
        """Adds all violations and all pending work to the findings."""
        supplied = [(case, supply) for case in self._cases.values() if (supply := case.group.supply) is not None]
        if not (self._stocks or self._allowances or supplied):
            return
        stocks = [stock for stock in self._stocks.values() if not stock.chain.trimmed]
        heard: dict[str, set[int]] = {}
        for stock in stocks:
            for one in stock.heard or ():
                heard.setdefault(one.group, set()).add(one.cause)
                self._check_heard(stock, one)
            self._check_leases(stock)
        sold: Counter[str] = Counter()
        for case, supply in supplied:
            if not case.trimmed:
                self._check_group(case, supply, heard.get(case.key, set()))
                sold[_stock_of(case)] += _charged(case)
        for stock in stocks:
            if (charged := sold[stock.key]) != stock.books.sold:
                what = f"stock item {stock.key}: {stock.books.sold} sold, {charged} were charged"
                self._pending(Invariant.LEASES, "", what)
        for key, allowance in self._allowances.items():
            if not allowance.chain.trimmed:
                self._check_allowance(key, allowance)
        self._check_limits()

    # --- stock items -------------------------------------------------------------------------------------------------

    def _check_heard(self, stock: StockFold, heard: Heard) -> None:
        case = self._cases.get(heard.group)
        supply = None if case is None else case.group.supply
        if case is None or supply is None or case.trimmed or case.group.inputs is None:
            if case is None or supply is None:
                self._pending(Invariant.LEASES, heard.group, f"stock item {stock.key} hears of a group without stock")
            return
        sent = supply.sent.get(heard.cause)
        about = f"stock item {stock.key} version {heard.version}"
        if sent is None:
            what = f"{about} hears decision {heard.cause}, which asks for nothing and gives nothing"
            if case.group.chain.cause < heard.cause:
                self._pending(Invariant.LEASES, heard.group, what)
            else:
                self._violation(Invariant.LEASES, heard.group, what)
            return
        # A stock item that does not know a group has nothing to close.
        closed = heard.closed or (sent.closed and not heard.known)
        if (heard.returned, heard.sold, closed) != (sent.returned, sent.sold, sent.closed):
            self._violation(
                Invariant.LEASES,
                heard.group,
                f"{about} takes {heard.returned} back, {heard.sold} sold, closed {heard.closed}; "
                f"the group gave {sent.returned}, {sent.sold}, {sent.closed}",
            )
        self._check_answer(about, heard, sent)

    def _check_answer(self, about: str, heard: Heard, sent: Sent) -> None:
        if heard.leased and not sent.at_least <= heard.leased <= max(sent.wanted, sent.at_most):
            what = f"{about} leases {heard.leased} pieces, the group asked for {sent.at_least} to {sent.at_most}"
            self._violation(Invariant.LEASES, heard.group, what)
        if bool(sent.at_least) != bool(heard.leased or heard.denied) and not sent.closed:
            self._violation(Invariant.LEASES, heard.group, f"{about} answers {'no' if sent.at_least else 'a'} request")

    def _check_leases(self, stock: StockFold) -> None:
        """Compares each lease with the grant in the group's log, and what is out with the books of the groups."""
        for (group, version), units in stock.leases.items():
            case = self._cases.get(group)
            supply = None if case is None else case.group.supply
            if case is None or supply is None or case.trimmed or case.group.inputs is None:
                continue
            granted = supply.grants.get(version)
            if granted is None:
                self._pending(Invariant.LEASES, group, f"a lease of {units} pieces is on its way")
            elif granted != units:
                self._violation(Invariant.PIECES, group, f"granted {granted} pieces, {units} were leased")
        for group, units in stock.books.leases.items():
            case = self._cases.get(group)
            if units and (case is None or case.group.state > GroupState.FORMING):
                self._pending(Invariant.LEASES, group, f"{units} pieces of stock item {stock.key} have not come home")
        if stock.books.line:
            self._pending(Invariant.LEASES, next(iter(stock.books.line)), f"waits in line of stock item {stock.key}")

    # --- groups ------------------------------------------------------------------------------------------------------

    def _check_group(self, case: Case, supply: Supply, heard: set[int]) -> None:
        group, key = case.group, case.key
        stock = self._stocks.get(_stock_of(case))
        if stock is not None and not stock.chain.trimmed and group.inputs is not None:
            for version, units in supply.grants.items():
                if (key, version) not in stock.leases:
                    what = f"has {units} pieces of version {version} of stock item {stock.key}, which leased it none"
                    if stock.chain.version < version:
                        self._pending(Invariant.PIECES, key, what)
                    else:
                        self._violation(Invariant.PIECES, key, what)
            for cause in supply.sent.keys() - heard:
                self._pending(Invariant.LEASES, key, f"its decision at input {cause} is on its way to the stock item")
        for order in (*supply.admitting, *supply.to_return):
            self._pending(Invariant.LIMITS, key, "its allowance has not answered, or is not given back", order)

    # --- allowances --------------------------------------------------------------------------------------------------

    def _check_allowance(self, key: str, allowance: AllowanceFold) -> None:
        for order, admission in allowance.admissions.items():
            case = self._cases.get(admission.group)
            if case is None or case.trimmed:
                continue
            terms = case.group.terms
            seat = case.group.seats.get(order)
            if terms is None or seat is None or not seat.limited:
                self._pending(
                    Invariant.LIMITS, admission.group, f"allowance {key} admits an order that did not ask", order
                )
                continue
            if (key, admission.quantity) != (f"{terms.campaign}/{seat.customer}", seat.quantity):
                what = f"allowance {key} admits {admission.quantity} pieces, the order is of another one"
                self._violation(Invariant.LIMITS, admission.group, what, order)
            if admission.pieces > terms.limit_per_customer:
                what = f"allowance {key} admits {admission.pieces} pieces, the limit is {terms.limit_per_customer}"
                self._violation(Invariant.LIMITS, admission.group, what, order)
            self._check_admission(key, allowance, order, admission, seat.state)

    def _check_admission(
        self, key: str, allowance: AllowanceFold, order: str, admission: Admission, state: SeatState
    ) -> None:
        bought = state is SeatState.SETTLED
        if order in allowance.books.returned and (bought or state in _LIVE):
            what = f"allowance {key} has it back, and the order is {state.name}"
            self._violation(Invariant.LIMITS, admission.group, what, order)
        elif order in allowance.books.admitted and state.final and not bought:
            self._pending(Invariant.LIMITS, admission.group, f"allowance {key} does not have it back", order)

    def _check_limits(self) -> None:
        """The pieces of each customer in each limited campaign, over all groups: bought, and in seats at the end.

        Before the end, one log may be read further than another, so that a seat counts that the customer has left.
        """
        pieces: dict[tuple[str, str], int] = {}
        limits: dict[tuple[str, str], int] = {}
        for case in self._cases.values():
            terms = case.group.terms
            if terms is None or not terms.limit_per_customer:
                continue
            for seat in case.group.seats.values():
                if seat.state is SeatState.SETTLED or (self._settled and seat.state.seated):
                    name = terms.campaign, seat.customer
                    pieces[name] = pieces.get(name, 0) + seat.quantity
                    limits[name] = max(limits.get(name, 0), terms.limit_per_customer)
        for name, count in pieces.items():
            if count > limits[name]:
                what = f"customer {name[1]} has {count} pieces of campaign {name[0]}, the limit is {limits[name]}"
                self._violation(Invariant.LIMITS, "", what)

    # --- findings ----------------------------------------------------------------------------------------------------

    def _violation(self, invariant: Invariant, group: str, what: str, order: str = "") -> None:
        self._findings.breach(invariant, group, order, what)

    def _pending(self, invariant: Invariant, group: str, what: str, order: str = "") -> None:
        """Records a violation if everything should be settled, else pending work."""
        if self._settled:
            self._violation(invariant, group, what, order)
        else:
            about = " ".join(
                part for part in (f"group {group}" if group else "", f"order {order}" if order else "") if part
            )
            self._findings.add_pending(f"{about}: {what}" if about else what)


_LIVE = frozenset({SeatState.WAITLISTED, SeatState.RESERVED, SeatState.CONFIRMED})


def _stock_of(case: Case) -> str:
    """The stock item of a group; empty: none."""
    return case.group.terms.stock if case.group.terms is not None else ""


def _charged(case: Case) -> int:
    """Pieces of charged members."""
    return sum(seat.quantity for seat in case.group.seats.values() if seat.state is SeatState.SETTLED)
