"""Planted bugs in the lease protocol, the allowances, and the rules of groups with stock, found by world/stock.py."""

from __future__ import annotations

from services.groups.domain import evolve as group_evolve
from services.groups.domain.version_2 import decide, joining, leaving, supply
from services.inventory.domain.allowance import decide as allowance
from services.inventory.domain.stock import decide as stock
from services.inventory.domain.stock import evolve as stock_evolve
from services.inventory.domain.stock.domain import StockDomain
from services.inventory.processors.offers import OfferMapper
from tests.simulation.mutants.planting import Mutant, mutant

INVENTORY: tuple[Mutant, ...] = (
    mutant(
        "stock_repeats",
        "the stock item takes a repeated decision of a group again",
        (stock.is_repeat, "command.message.cause <= heard", "False"),
    ),
    mutant(
        "stock_forgets_causes",
        "the stock item remembers the first cause of a partition only",
        (
            stock_evolve._heard,
            "state.heard[event.partition] = event.cause",
            "state.heard.setdefault(event.partition, event.cause)",
        ),
    ),
    mutant(
        "group_takes_repeated_grants",
        "a group takes a repeated answer of the stock item again",
        (supply.on_stock_answer, "answer.version <= supply.stock_version", "False"),
    ),
    mutant(
        "late_lease_kept",
        "a group that has ended keeps pieces that come late",
        (supply.on_late_answer, "if answer.granted and", "if False and"),
    ),
    mutant(
        "idle_pieces_kept",
        "a group that has ended keeps the pieces that are in no seat",
        (supply._balance_pieces, "if supply.idle or closes:", "if closes and not supply.idle:"),
    ),
    mutant(
        "close_not_reported",
        "the stock item is not told that a group asks for no more",
        (supply._balance_pieces, "if supply.idle or closes:", "if supply.idle:"),
    ),
    mutant(
        "sold_not_reported",
        "the stock item is not told of charged pieces",
        (supply._balance_pieces, "if supply.sold:", "if False:"),
    ),
    mutant(
        "sold_returned",
        "charged pieces are given back",
        (
            group_evolve._end_settlement,
            "if status is _SETTLED:\n            supply.sold",
            "if False:\n            supply.sold",
        ),
    ),
    mutant(
        "return_more_than_leased",
        "the stock item takes back one piece more than it is given",
        (stock._return, "min(units, lease.units)", "units + 1"),
    ),
    mutant(
        "lease_beyond_free",
        "a lease is given without free pieces",
        (stock._answer, "at_least <= free", "True"),
    ),
    mutant(
        "lease_takes_nothing",
        "a lease does not leave the free pieces",
        (stock_evolve._leased, "state.leased += event.units", "pass"),
    ),
    mutant(
        "line_served_without_pieces",
        "the line is served without free pieces",
        (stock.can_serve_line, "state.archived or at_least <= state.free", "True"),
    ),
    mutant(
        "line_not_served",
        "returned pieces do not go to the line",
        (stock.decide, "if state.line:", "if False:"),
    ),
    mutant(
        "line_kept_after_close",
        "a group that has ended stays in line",
        (stock._on_group, "group in state.leases or group in state.line", "group in state.leases"),
    ),
    mutant(
        "total_below_out",
        "the total is lowered below what is out",
        (stock._refusal, "command.total < state.sold + state.leased", "False"),
    ),
    mutant(
        "seat_without_pieces",
        "a seat is given without pieces of the group",
        (supply.has_pieces, "supply_of(state).idle >= quantity", "True"),
    ),
    mutant(
        "waiting_for_ever",
        "orders wait on although the group does not wait in line",
        (supply.on_stock_answer, "if not answer.queued:", "if False:"),
    ),
    mutant(
        "asks_twice",
        "a group asks again before the answer",
        (supply._balance_pieces, "not supply.asked and ", ""),
    ),
    mutant(
        "line_overtaken",
        "a group that asks gets pieces before those in line",
        (stock._answer, " and not state.line:", ":"),
    ),
    mutant(
        "lease_beyond_request",
        "a lease is larger than the group can use",
        (stock._answer, "min(units.at_most, share)", "share + 1"),
    ),
    mutant(
        "allowance_repeats",
        "the allowance takes a repeated decision of a group again",
        (allowance.is_repeat, "command.asked.cause <= state.heard.get(command.partition, -1)", "False"),
    ),
    mutant(
        "allowance_keeps_returns",
        "the allowance does not take pieces back",
        (allowance.decide, "if order in state.admitted:\n            yield", "if False:\n            yield"),
    ),
    mutant(
        "admits_everybody",
        "the allowance admits orders beyond the limit",
        (allowance.decide, "state.pieces + request.quantity <= asked.limit", "True"),
    ),
    mutant(
        "gate_passed",
        "an order of a limited campaign is seated without its admission",
        (joining._place, "if not terms.limit_per_customer:", "if True:"),
    ),
    mutant(
        "denied_is_seated",
        "a denied order is seated",
        (joining.on_admission, "if not answer.admitted:", "if False:"),
    ),
    mutant(
        "allowance_not_returned",
        "an order that ended without a purchase uses up the allowance",
        (supply.balance, "supply.unreturned.items()", "{}.items()"),
    ),
    mutant(
        "declined_charge_uses_allowance",
        "a declined charge uses up the allowance",
        (group_evolve._end_settlement, "elif state.frozen.limit_per_customer:", "elif False:"),
    ),
    mutant(
        "cancelled_uses_allowance",
        "an order that leaves the group uses up the allowance",
        (
            group_evolve._seat_released,
            "supply is not None and seat is not None and state.frozen.limit_per_customer",
            "False",
        ),
    ),
    mutant(
        "sold_before_start",
        "orders are taken before the start of the sale",
        (joining._outside_sale, "at_ms < terms.start_ms", "False"),
    ),
    mutant(
        "sold_after_end",
        "orders are taken after the end of the sale",
        (joining._outside_sale, "terms.end_ms and at_ms >= terms.end_ms", "False"),
        (joining.open_group, "min(deadline_ms, terms.end_ms)", "deadline_ms"),
    ),
    mutant(
        "waitlist_not_seated",
        "orders that wait for pieces are not seated when pieces come",
        (decide._seat_waitlist, "if not _can_seat_first(state):", "if True:"),
    ),
    mutant(
        "solo_left_open",
        "a solo purchase that is refused stays open",
        (leaving._lose_leader, "if state.frozen.solo:", "if False:"),
    ),
)

#: Bugs that only sales in the whole system meet.
WHOLE_SALES: tuple[Mutant, ...] = (
    mutant(
        "failed_repeat_answered",
        "a repeat on which the rules fail is answered again",
        (StockDomain.faulted, " or is_repeat(state, command)", ""),
    ),
    mutant(
        "failed_repeat_denied",
        "a repeated request for an admission on which the rules fail is denied again",
        (allowance.fault, " or is_repeat(state, command)", ""),
    ),
    mutant(
        "offers_not_copied",
        "a stock item that is sold out is not announced",
        (OfferMapper.routes, "if changed is None:", "if changed is None or not changed.free:"),
    ),
)
