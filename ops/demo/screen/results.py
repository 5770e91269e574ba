"""The results of the evening: where each order ended, and what was paid by campaign, by group and by member.

Every table of amounts has the same columns (`money_columns`), and its last rows are the sums of the rows above them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from ops.audit.group.decisions import GroupFold
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import Seat
from ops.demo.board import Board
from ops.demo.endings import Ending, ending
from ops.demo.player import Tally
from ops.demo.screen import money_columns
from ops.demo.sums import Sums, of_seat, unpaid
from ops.terminal.amounts import amount
from ops.terminal.sheet import Column, Row, Sheet

#: The numbers of groups, and of members of a group, that have a row of their own.
GROUPS_SHOWN = 10
MEMBERS_SHOWN = 10
SOLO = "solo"


def print_results(console: Console, board: Board, tally: Tally) -> None:
    """Prints all tables and the legend."""
    for content in (_answers(tally), endings(board), groups_by_campaign(board), _legend()):
        console.print(content)
        console.print()
    for sheet in (by_price(board), holds(board), by_group(board), *member_sheets(board)):
        console.print(sheet)
        console.print()


def endings(board: Board) -> Sheet:
    """The number of orders by final state."""
    counts = board.endings()
    sheet = Sheet("Where each order ended", [Column("final state", right=False), Column("orders")])
    sheet.rows = [(one.value, f"{counts[one]:,}") for one in Ending if counts[one]]
    sheet.totals = [("orders placed", f"{counts.total():,}")]
    return sheet


def groups_by_campaign(board: Board) -> Sheet:
    """The number of groups by state, and of solo purchases beside them."""
    titles = ("groups", "completed", "expired", "cancelled", "forming", "solo purchases")
    sheet = Sheet("Groups and solo purchases by campaign", [Column("campaign", right=False), *map(Column, titles)])
    states = (GroupState.COMPLETED, GroupState.EXPIRED, GroupState.CANCELLED, GroupState.FORMING)
    sums = [0] * len(titles)
    for title, groups in _by_title(board, board.opened()).items():
        pooled = [group.state for group in groups if group.terms and not group.terms.solo]
        counts = [len(pooled), *(pooled.count(state) for state in states), len(groups) - len(pooled)]
        sums = [sum(pair) for pair in zip(sums, counts, strict=True)]
        sheet.rows.append((title, *(f"{count:,}" for count in counts)))
    sheet.totals = [("all campaigns", *(f"{count:,}" for count in sums))]
    return sheet


def by_price(board: Board) -> Sheet:
    """The sums by campaign and price."""
    columns = [Column("campaign", right=False), Column("price"), Column("groups", optional=True)]
    columns += [Column("pieces", optional=True), *money_columns.PRICE]
    sheet = Sheet("Paid by campaign and price", columns)
    for title, groups in _by_title(board, board.opened()).items():
        completed = [group for group in groups if group.state is GroupState.COMPLETED]
        for solo in (False, True):
            prices = {group.unit_price_minor for group in completed if _solo(group) is solo}
            for price in sorted(prices, reverse=True):
                of_price = [g for g in completed if _solo(g) is solo and g.unit_price_minor == price]
                for currency, sums in board.money_of(of_price).items():
                    label = amount(price, currency)
                    count = SOLO if solo else f"{len(of_price):,}"
                    cells = (f"{SOLO} {label}" if solo else label, count, f"{sums.pieces:,}")
                    sheet.rows.append((title, *cells, *money_columns.price(sums, currency)))
    for currency, sums in board.money().items():
        sheet.totals.append((f"all {currency}", "", "", f"{sums.pieces:,}", *money_columns.price(sums, currency)))
    return sheet


def holds(board: Board) -> Sheet:
    """The sums of the holds by currency."""
    sheet = Sheet("Holds by currency", [Column("currency", right=False), *money_columns.HOLDS, Column("net")])
    for currency, sums in board.money().items():
        net = amount(sums.net, currency) if sums.net else money_columns.NOTHING
        sheet.rows.append((currency, *money_columns.holds(sums, currency), net))
    return sheet


def by_group(board: Board) -> Sheet:
    """The sums of a few groups, of all others together, and of the solo purchases."""
    columns = [Column("group", right=False), Column("price"), Column("members", optional=True)]
    columns += [Column("pieces", optional=True), *money_columns.PRICE]
    sheet = Sheet("Paid by group", columns)
    shown = examples(board, GROUPS_SHOWN)
    keys = {group.key for group in shown}
    rest = [group for group in board.pooled() if group.key not in keys]
    for group in shown:
        assert group.terms is not None
        completed = group.state is GroupState.COMPLETED
        price = amount(group.unit_price_minor, group.terms.currency) if completed else group.state.name.lower()
        sheet.rows.append(
            _sums_row(f"{board.title(group)} {group.key[:6]}", price, group.terms.currency, board.sums_of(group))
        )
    for label, groups in (("more groups", rest), ("solo purchases", board.solo())):
        for currency, sums in board.money_of(groups).items():
            count = sum(group.terms is not None and group.terms.currency == currency for group in groups)
            sheet.rows.append(_sums_row(f"{count:,} {label}", currency, currency, sums))
    for currency, sums in board.money().items():
        sheet.totals.append(_sums_row(f"all {currency}", "", currency, sums))
    return sheet


def examples(board: Board, most: int) -> list[GroupFold]:
    """Groups with an unpaid member, a discount or too few members, the largest of each campaign, then the largest."""
    groups = sorted(board.pooled(), key=lambda group: (-len(group.members), -len(group.seats), group.key))
    completed = [group for group in groups if group.state is GroupState.COMPLETED]
    with_unpaid = [group for group in completed if any(map(unpaid, group.seats.values()))]
    with_discount = [group for group in completed if group.terms and group.terms.leader_discount_minor]
    ended_short = [group for group in groups if group.state in {GroupState.EXPIRED, GroupState.CANCELLED}]
    largest = [groups[0] for groups in _by_title(board, completed).values()]
    first = (*with_unpaid[:2], *with_discount[:2], *ended_short[:2], *largest)
    chosen = {group.key: group for group in (*first, *completed, *ended_short)}
    shown = list(chosen.values())[:most]
    return sorted(shown, key=lambda group: (board.title(group), group.state, -len(group.members), group.key))


def member_sheets(board: Board) -> Iterator[Sheet]:
    """The members of two groups: one with an unpaid member if there is one, and one that did not complete."""
    groups = examples(board, GROUPS_SHOWN)
    completed = [group for group in groups if group.state is GroupState.COMPLETED]
    with_unpaid = [group for group in completed if any(map(unpaid, group.seats.values()))]
    ended_short = [group for group in groups if group.state is not GroupState.COMPLETED]
    for group in ((with_unpaid or completed)[:1], ended_short[:1]):
        if group:
            yield members(board, group[0])


def members(board: Board, group: GroupFold) -> Sheet:
    """The orders of one group, with a row for those that have no row of their own."""
    assert group.terms is not None
    currency = group.terms.currency
    price = f" at {amount(group.unit_price_minor, currency)}" if group.state is GroupState.COMPLETED else ""
    columns = [Column("order", right=False), Column("customer", right=False), Column("end", right=False, optional=True)]
    columns += [Column("pieces", optional=True), *money_columns.PRICE, Column("held", optional=True)]
    title = f"The orders of {board.title(group)} {group.key[:6]}: {group.state.name.lower()}{price}"
    sheet = Sheet(title, columns)
    payments = board.payments.get(group.key)
    of_order = payments.payments if payments is not None else {}

    def sums_of(seats: Iterable[Seat]) -> Sums:
        sums = Sums()
        for seat in seats:
            sums.add(of_seat(group, seat, of_order.get(seat.order)))
        return sums

    def row(order: str, customer: str, end: str, pieces: str, seats: Iterable[Seat]) -> Row:
        sums = sums_of(seats)
        held = amount(sums.held, currency) if sums.held else money_columns.NOTHING
        return (order, customer, end, pieces, *money_columns.price(sums, currency), held)

    seats = sorted(
        group.seats.values(), key=lambda seat: (not unpaid(seat), seat.order != group.leader_order, seat.state)
    )
    for seat in seats[:MEMBERS_SHOWN]:
        leads = " (leads)" if seat.order == group.leader_order else ""
        end = ending(group, seat).name.lower().replace("_", " ")
        sheet.rows.append(row(seat.order[:8], seat.customer + leads, end, f"{seat.quantity or ''}", [seat]))
    if more := seats[MEMBERS_SHOWN:]:
        sheet.rows.append(row(f"{len(more)} more", "", "", "", more))
    sheet.totals = [row("all", "", "", "", seats)]
    return sheet


def _sums_row(label: str, price: str, currency: str, sums: Sums) -> Row:
    return (label, price, f"{sums.members:,}", f"{sums.pieces:,}", *money_columns.price(sums, currency))


def _solo(group: GroupFold) -> bool:
    return group.terms is not None and group.terms.solo


def _by_title(board: Board, groups: Sequence[GroupFold]) -> dict[str, list[GroupFold]]:
    found: dict[str, list[GroupFold]] = {}
    for group in groups:
        found.setdefault(board.title(group), []).append(group)
    return dict(sorted(found.items()))


def _legend() -> Sheet:
    sheet = Sheet("Full price - discount - unpaid = net, in every table", [Column("", right=False)] * 2)
    sheet.rows = list(money_columns.LEGEND)
    return sheet


def _answers(tally: Tally) -> Text:
    answers = ", ".join(
        f"{count:,} {state.lower().replace('_', ' ')}" for state, count in sorted(tally.answers.items())
    )
    return Text(
        f"The shop placed {tally.placed:,} orders; the first responses were {answers or 'none'}. It sent "
        f"{tally.duplicates:,} duplicate requests and retried {tally.retries:,} calls. {tally.cancelled:,} "
        f"cancellations were in time, {tally.too_late_to_cancel:,} came too late."
    )
