"""The results of the evening: a table by campaign, and the payments of each group."""

from __future__ import annotations

from collections import Counter

from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chassis.telemetry.printable import printable
from ops.amounts import amount
from ops.audit.group.decisions import GroupFold
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import SeatState
from ops.demo.board import Board, Money
from ops.demo.player import Tally

#: The number of groups whose members are listed.
IN_FULL = 3


def print_results(console: Console, board: Board, tally: Tally) -> None:
    """Prints all tables."""
    console.print(_by_campaign(board))
    console.print(Text("What each group paid", style="italic"))
    groups = sorted(board.opened(), key=lambda group: (board.title(group), group.state, -len(group.members), group.key))
    lines = [_line(board, group) for group in groups if group.terms and not group.terms.solo]
    console.print(Columns(lines, equal=True, column_first=True, padding=(0, 3)))
    for group in _in_full(groups):
        console.print(_members(board, group))
    console.print(_answers(tally), highlight=False)


def _by_campaign(board: Board) -> Table:
    table = Table(title="The evening by campaign", title_justify="left")
    for column in ("campaign", "completed", "expired", "members", "prices paid", "solo", "captured", "released"):
        table.add_column(column, justify="left" if column in {"campaign", "prices paid"} else "right")
    by_title: dict[str, list[GroupFold]] = {}
    for group in board.opened():
        by_title.setdefault(board.title(group), []).append(group)
    for title, groups in sorted(by_title.items()):
        pooled = [group for group in groups if group.terms and not group.terms.solo]
        states = Counter(group.state for group in pooled)
        prices = Counter(group.unit_price_minor for group in pooled if group.state is GroupState.COMPLETED)
        currency = groups[0].terms.currency if groups[0].terms else ""
        money = Money()
        for group in groups:
            of_group = board.money_of(group)
            money.captured += of_group.captured
            money.released += of_group.released
        table.add_row(
            title,
            str(states[GroupState.COMPLETED]),
            str(states[GroupState.EXPIRED] + states[GroupState.CANCELLED]),
            str(sum(len(group.members) for group in pooled)),
            ", ".join(f"{amount(price, currency)} ×{count}" for price, count in sorted(prices.items(), reverse=True)),
            str(len(groups) - len(pooled)),
            amount(money.captured, currency),
            amount(money.released, currency),
        )
    return table


def _line(board: Board, group: GroupFold) -> Text:
    assert group.terms is not None
    currency = group.terms.currency
    text = Text(f"{board.title(group):<12} {group.key[:6]} ", no_wrap=True)
    if group.state is not GroupState.COMPLETED:
        text.append(f"{group.state.name.lower()}, all released", style="red")
        return text
    charged = [seat for seat in group.seats.values() if seat.state is SeatState.SETTLED]
    pieces = sum(seat.quantity for seat in charged)
    text.append(f"{len(charged):>2} paid {amount(group.unit_price_minor, currency)}", style="green")
    # The sum is less than the product by the leader's discount.
    text.append(f" × {pieces} = {amount(board.money_of(group).captured, currency)}")
    return text


def _in_full(groups: list[GroupFold]) -> list[GroupFold]:
    """Prints a few groups in full: the largest, one with a cancelled member, one that expired."""
    pooled = [group for group in groups if group.terms and not group.terms.solo]
    completed = sorted((g for g in pooled if g.state is GroupState.COMPLETED), key=lambda g: -len(g.seats))
    eventful = [g for g in completed if any(s.state is SeatState.DECLINED for s in g.seats.values())]
    expired = sorted((g for g in pooled if g.state is GroupState.EXPIRED), key=lambda g: -len(g.seats))
    chosen = {g.key: g for g in (*completed[:1], *eventful[-1:], *expired[:1])}
    return list(chosen.values())[:IN_FULL]


def _members(board: Board, group: GroupFold) -> Table:
    assert group.terms is not None
    currency = group.terms.currency
    table = Table(title=f"{board.title(group)}, groups/{group.key}: {group.state.name.lower()}", title_justify="left")
    for column in ("order", "customer", "pieces", "end", "held", "captured", "released"):
        table.add_column(column, justify="right" if column in {"pieces", "held", "captured", "released"} else "left")
    group_payments = board.payments.get(group.key)
    seats = sorted(group.seats.values(), key=lambda seat: seat.state)
    refused = [seat for seat in seats if seat.state is SeatState.REFUSED]
    for seat in seats:
        if seat.state is SeatState.REFUSED and len(refused) > 5:
            continue
        payment = group_payments.payments.get(seat.order) if group_payments is not None else None
        holds = payment.holds.values() if payment is not None else ()
        held, kept = sum(hold.held for hold in holds), sum(hold.kept for hold in holds)
        released = sum(hold.released + hold.own_refunds for hold in holds)
        leads = " (leads)" if seat.order == group.leader_order else ""
        table.add_row(
            seat.order[:8],
            printable(seat.customer) + leads,
            str(seat.quantity or ""),
            seat.state.name.lower(),
            *(amount(minor, currency) if held else "" for minor in (held, kept, released)),
        )
    if len(refused) > 5:
        table.add_row("", f"and {len(refused)} more", "", "refused", "", "", "")
    return table


def _answers(tally: Tally) -> str:
    answers = ", ".join(f"{count:,} {state.lower()}" for state, count in sorted(tally.answers.items()))
    return (
        f"The shop placed {tally.placed:,} orders ({answers}), sent {tally.duplicates:,} duplicate requests, "
        f"retried {tally.retries:,} calls, cancelled {tally.cancelled:,} orders, "
        f"{tally.too_late_to_cancel:,} cancellations came too late."
    )
