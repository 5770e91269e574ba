"""Invariants of pieces and allowances, checked at every record of a simulated sale.

They are counted from the events alone, without code of the domains.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import REFUSAL_REASON_LIMIT_REACHED, GroupDecision
from groupbuy.inventory.v1.decisions_pb2 import AllowanceDecision, StockDecision

from services.groups.domain.model import Phase
from shared_kernel import topics
from tests.simulation.audit.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.world.stock import StockWorld


class PiecesAuditor:
    """The books of one stock item, of the groups, and of the customers."""

    def __init__(self, offer: Campaign, stock: str) -> None:
        #: Whether it only counts, and raises nothing.
        self.silent = False
        self._offer = offer
        self._stock = stock
        self._versions: dict[tuple[str, str], int] = defaultdict(int)
        #: (group, customer, pieces) by order.
        self._orders: dict[str, tuple[str, str, int]] = {}
        self._ends: dict[str, str] = {}
        self.total = 0
        self.sold = 0
        #: Pieces of each group by the books of the stock item, and by those of the group.
        self.leased: dict[str, int] = defaultdict(int)
        self.granted: dict[str, int] = defaultdict(int)
        #: Pieces in seats by order: reserved, confirmed, or charged.
        self.seats: dict[str, int] = {}
        self.charged: set[str] = set()
        #: Seats that were reserved, and answers of stock items that left a group without pieces.
        self.reserved = 0
        self.denied = 0
        self.denied_by_limit = 0
        #: Pieces by order within the limit.
        self._admitted: dict[str, int] = {}

    def _breach(self, promise: str, key: str, what: str) -> None:
        """Raises Violation, unless it only counts."""
        if not self.silent:
            raise Violation(promise, key, what)

    def placed(self, order: str, group: str, customer: str, quantity: int) -> None:
        """An order was placed."""
        self._orders[order] = group, customer, quantity

    def is_first(self, group: str, version: int) -> bool:
        """Whether the decision that was appended last is the first of its version; call it after `watch`."""
        return self._last == (group, version, True)

    def watch(self, record: Any) -> None:
        """Checks a record that was appended. Raises Violation."""
        folds: dict[str, Any] = {
            topics.GROUP_LOG.name: (GroupDecision, "group", self._fold_group),
            topics.STOCK_LOG.name: (StockDecision, "stock", self._fold_stock),
            topics.ALLOWANCE_LOG.name: (AllowanceDecision, "allowance", self._fold_allowance),
        }
        if record.topic not in folds:
            return
        message, name, fold = folds[record.topic]
        decision = message.FromString(record.value)
        key = getattr(decision, name)
        first = decision.version == self._versions[record.topic, key] + 1
        if record.topic == topics.GROUP_LOG.name:
            self._last = key, decision.version, first
        if first:
            self._versions[record.topic, key] += 1
            fold(decision)
            self._check(key)

    def _fold_stock(self, decision: StockDecision) -> None:
        for event in decision.events:
            body = event.WhichOneof("body")
            what = getattr(event, body or "")
            if body in ("created", "updated"):
                self.total = what.total
            elif body == "leased":
                self.leased[what.group] += what.units
            elif body in ("returned", "sold"):
                self.leased[what.group] -= what.units
                self.sold += what.units if body == "sold" else 0
            elif body == "faulted":
                self._breach("the rules raise no error", decision.stock, what.error)

    def _fold_group(self, decision: GroupDecision) -> None:
        group = decision.group
        for event in decision.events:
            body = event.WhichOneof("body")
            what = getattr(event, body or "")
            order = getattr(what, "order", "")
            if body == "seat_reserved":
                self.reserved += 1
                self.seats[order] = what.quantity
                self._check_time(order, decision.time_ms)
            elif body in ("seat_released", "seat_refused", "member_declined"):
                self.seats.pop(order, None)
                self._ends.setdefault(order, body)
                self.denied_by_limit += body == "seat_refused" and what.reason == REFUSAL_REASON_LIMIT_REACHED
            elif body == "member_settled":
                self.charged.add(order)
                self._ends[order] = body
            elif body == "units_granted":
                self.granted[group] += what.units
            elif body == "units_denied":
                self.denied += 1
            elif body == "units_returned":
                self.granted[group] -= what.units
            elif body == "faulted":
                self._breach("the rules raise no error", group, what.error)

    def _fold_allowance(self, decision: AllowanceDecision) -> None:
        for event in decision.events:
            body = event.WhichOneof("body")
            if body == "admitted":
                self._admitted[event.admitted.order] = event.admitted.quantity
            elif body == "returned":
                if self._admitted.pop(event.returned.order, None) is None:
                    self._breach("an allowance gives back what it admitted", decision.allowance, event.returned.order)
            elif body == "faulted":
                self._breach("the rules raise no error", decision.allowance, event.faulted.error)

    # Invariants -------------------------------------------------------------------------------------------------

    def _check(self, key: str) -> None:
        leased = sum(self.leased.values())
        free = self.total - leased - self.sold
        if free < 0 or min(self.leased.values(), default=0) < 0:
            self._breach("free pieces are not negative", self._stock, f"{free} free, {dict(self.leased)} leased")
        taken = sum(self.seats.values())
        if taken > self.total:
            self._breach("never oversold", self._stock, f"{taken} pieces in seats of {self.total}")
        seats: dict[str, int] = defaultdict(int)
        customers: dict[str, int] = defaultdict(int)
        for order, pieces in self.seats.items():
            group, customer, _ = self._orders[order]
            seats[group] += pieces
            customers[customer] += pieces
        for group, pieces in seats.items():
            if pieces > self.granted[group]:
                self._breach("a seat has its pieces", group, f"{pieces} in seats, {self.granted[group]} granted")
        limit = self._offer.limit_per_customer
        for customer, pieces in customers.items():
            if limit and pieces > limit:
                self._breach("a customer's limit holds", customer, f"{pieces} pieces, limit {limit}")

    def _check_time(self, order: str, time_ms: int) -> None:
        start_ms = self._offer.start_time.ToMilliseconds()
        end_ms = self._offer.end_time.ToMilliseconds()
        if time_ms < start_ms or (end_ms and time_ms >= end_ms):
            self._breach("nothing is sold outside its window", order, f"a seat at {time_ms}")

    def check_quiet(self, world: StockWorld) -> None:
        """Checks what holds whenever every message has arrived: nobody waits for what is there. Raises Violation."""
        for decider in world.decided(topics.INVENTORY_STOCK_DECIDER):
            for item in decider.states.aggregates():
                for group, at_least in list(item.state.line.items())[:1]:
                    if at_least <= self.total - sum(self.leased.values()) - self.sold:
                        self._breach("nobody waits for free pieces", group, f"needs {at_least}")
        for decider in world.decided(topics.GROUPS_DECIDER):
            for one in decider.states.aggregates():
                self._check_quiet_group(one.key, one.state)

    def _check_quiet_group(self, group: str, state: Any) -> None:
        if state.phase is not Phase.FORMING:
            return
        seated = state.reserved.keys() | state.confirmed.keys()
        pieces = sum(self._orders[order][2] for order in seated)
        for order in list(state.waitlist)[:1]:
            if len(seated) < state.frozen.capacity and pieces + self._orders[order][2] <= self.granted[group]:
                self._breach("nobody waits for a free seat", group, order)
        if state.frozen.solo and not seated and not state.waitlist:
            self._breach("a solo purchase ends with its order", group, "it forms on")

    def check_end(self, world: StockWorld) -> None:
        """Checks what holds when nothing is left to do: every piece is free or sold. Raises Violation."""
        for order, (group, _, _) in self._orders.items():
            if order not in self._ends:
                self._breach("every order ends", group, f"{order} has no end")
        left = {group: units for group, units in self.leased.items() if units}
        if left:
            self._breach("every lease comes home", self._stock, f"{left} leased")
        bought = sum(self._orders[order][2] for order in self.charged)
        if bought != self.sold:
            self._breach("sold is what was charged", self._stock, f"{self.sold} sold, {bought} charged")
        (item,) = [
            one.state
            for decider in world.decided(topics.INVENTORY_STOCK_DECIDER)
            for one in decider.states.aggregates()
        ]
        if (item.leased, item.sold, item.total, item.open_leases, item.leases) != (0, self.sold, self.total, 0, {}):
            self._breach("the stock's books are those of its log", self._stock, str(item))
        if item.line:
            self._breach("nobody waits in line at the end", self._stock, str(item.line))
        if self._offer.limit_per_customer:
            kept = set(self._admitted)
            if kept != self.charged:
                self._breach("an allowance keeps what was bought", "", f"{kept ^ self.charged} differ")
