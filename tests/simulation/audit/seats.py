"""The auditor's fold of one group's seats: reservations, the waitlist, refusals and releases.

It shares no code with the rules or with evolve, counts seats and members independently, and does not read the state of
the product.
"""

from __future__ import annotations

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_AT_DEADLINE, Campaign

from tests.simulation.audit.order import DAY_MS, END_OF, LIVE, PHASE_OF, Order
from tests.simulation.audit.violation import Violation


class SeatAudit:
    """The seats of one group. Its phases and its money are in groups.py."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.phase = "NONE"
        self.terms: pb.Terms | None = None
        self.deadline_ms = 0
        self.leader = ""
        self.orders: dict[str, Order] = {}
        self.reserved: dict[str, Order] = {}
        self.confirmed: dict[str, Order] = {}
        self.waiting: dict[str, Order] = {}
        self.tiers_announced = 0
        self.completed: list[str] = []
        self.unit_price = 0
        self.time_ms = 0
        self.settled = False
        self.defects = 0
        self.cancel_asked = False
        #: Orders that lost a seat in the current decision. The decision has to request the return of their funds.
        self._to_return: list[str] = []
        self._cause = -1
        self._campaign: Campaign | None = None
        self._failed = False

    def order(self, name: str) -> Order:
        found = self.orders.get(name)
        if found is None:
            found = self.orders[name] = Order()
        return found

    def fail(self, message: str) -> None:
        raise Violation("group's rules", self.key, message)

    def check(self, holds: bool, message: str) -> None:
        if not holds:
            self.fail(message)

    def decided(self, decision: pb.GroupDecision, campaign: Campaign | None) -> None:
        """Folds the next decision. `campaign` is that of the input that caused it."""
        self.time_ms = decision.time_ms
        self._cause = decision.cause
        self._campaign = campaign
        self._to_return = []
        self._failed = any(event.HasField("faulted") for event in decision.events)
        for event in decision.events:
            kind = event.WhichOneof("body")
            assert kind is not None
            getattr(self, f"_{kind}")(getattr(event, kind))
        self._after()

    def _after(self) -> None:
        for name in self._to_return:
            self.check(self.orders[name].release_requested, f"{name} lost its seat without a release request")
        if self.phase == "FORMING":
            terms = self._terms()
            now_ms = self.time_ms
            self.check(now_ms < self.deadline_ms, f"still forming {now_ms - self.deadline_ms} ms after its deadline")
            for name, order in self.reserved.items():
                self.check(now_ms < order.until_ms, f"{name} keeps a seat that lapsed {now_ms - order.until_ms} ms ago")
            full = len(self.confirmed) >= terms.capacity
            self.check(not full or terms.close_policy == CLOSE_POLICY_AT_DEADLINE, "the group is full, not completed")
            free = terms.capacity - len(self.confirmed) - len(self.reserved)
            self.check(free <= 0 or not self.waiting, "a seat is free while an order is in the waitlist")
        elif self.phase == "COMPLETED":
            self.check(not self.reserved and not self.waiting, "the group completed and still has unpaid orders")
            for name in self.completed:
                self.check(self.orders[name].to_capture > 0, f"the capture of the member {name} was not requested")
        elif self.phase in ("EXPIRED", "CANCELLED"):
            self.check(not (self.reserved or self.confirmed or self.waiting), f"{self.phase} with open orders")

    def _terms(self) -> pb.Terms:
        assert self.terms is not None, "no terms"
        return self.terms

    @property
    def entry_price(self) -> int:
        """The highest price of one piece."""
        terms = self._terms()
        return terms.solo_price_minor if terms.solo else terms.tiers[0].unit_price_minor

    # Seats -------------------------------------------------------------------------------------------------------

    def _seat_reserved(self, event: pb.SeatReserved) -> None:
        name, terms, order = event.order, self._terms(), self.order(event.order)
        self.check(self.phase == "FORMING", f"{name} got a seat in a group that is {self.phase}")
        self.check(order.status in ("", "WAITLISTED"), f"{name} got a seat though it was {order.status}")
        if order.status:
            self.check(next(iter(self.waiting)) == name, f"{name} was seated before the first of the waitlist")
            del self.waiting[name]
        self.check(len(self.reserved) + len(self.confirmed) < terms.capacity, f"{name} got a seat beyond the capacity")
        seats = [one for one in (*self.reserved.values(), *self.confirmed.values()) if one.customer == event.customer]
        self.check(len(seats) < terms.seats_per_customer, f"{event.customer} got one seat too many")
        self.check(order.cancel_at < 0 or order.cancel_at >= self._cause, f"{name} got a seat after it was cancelled")
        fact = order.placed
        assert fact is not None, f"a seat for {name}, which was not placed"
        placed = fact.placed
        same = (fact.customer, placed.quantity, placed.request_sha256, placed.payment_method, placed.currency)
        decided = (event.customer, event.quantity, event.request_sha256, event.payment_method, event.currency)
        self.check(decided == same, f"{name} was seated by another request than its first")
        self.check(placed.campaign == terms.campaign, f"{name} names another campaign")
        self.check(terms.currency == event.currency, f"{name} pays in another currency")
        self.check(1 <= event.quantity <= terms.max_quantity, f"{name} got a seat for {event.quantity} pieces")
        self.check(event.hold_amount_minor == self.entry_price * event.quantity, f"{name} has a hold of another amount")
        self.check(self.entry_price <= placed.max_unit_price_minor, f"the price is above the limit of {name}")
        until_ms = min(self.time_ms + terms.hold_window_ms, self.deadline_ms)
        self.check(event.reserved_until_ms == until_ms, f"{name} has another hold window than its terms")
        self.check(event.hold_until_ms >= self.deadline_ms + DAY_MS, f"the hold of {name} can end too early")
        order.status = "RESERVED"
        order.customer, order.quantity, order.method = event.customer, event.quantity, event.payment_method
        order.hold_amount, order.until_ms = event.hold_amount_minor, until_ms
        self.reserved[name] = order

    def _seat_refused(self, event: pb.SeatRefused) -> None:
        name, order = event.order, self.order(event.order)
        self.check(order.status in ("", "ORPHANED"), f"{name} was refused though it was {order.status}")
        self.check(order.placed is None or order.placed.placed.request_sha256 == event.request_sha256
                   or not event.request_sha256, f"{name} was refused by another request than its first")  # fmt: skip
        self.check(self._is_true(event.reason, order), f"{name} was refused: {pb.RefusalReason.Name(event.reason)}")
        order.status = "CANCELLED" if event.reason == pb.REFUSAL_REASON_CANCELLED else "REFUSED"

    def _is_true(self, reason: int, order: Order) -> bool:
        """Whether the reason of a refusal is true."""
        if reason == pb.REFUSAL_REASON_CANCELLED:
            return 0 <= order.cancel_at <= self._cause or order.status == "ORPHANED"
        if reason in (pb.REFUSAL_REASON_UNREADABLE, pb.REFUSAL_REASON_CAMPAIGN_UNKNOWN):
            return self.phase == "NONE" or reason == pb.REFUSAL_REASON_UNREADABLE
        if reason in (
            pb.REFUSAL_REASON_GROUP_CANCELLED,
            pb.REFUSAL_REASON_GROUP_EXPIRED,
            pb.REFUSAL_REASON_GROUP_COMPLETED,
        ):
            phase = pb.RefusalReason.Name(pb.RefusalReason.ValueType(reason)).removeprefix("REFUSAL_REASON_GROUP_")
            return self.phase == phase or self._failed
        assert order.placed is not None
        fact, placed = order.placed, order.placed.placed
        if self.terms is None:
            return reason not in (pb.REFUSAL_REASON_GROUP_FULL, pb.REFUSAL_REASON_ALREADY_MEMBER)
        if reason == pb.REFUSAL_REASON_GROUP_FULL:
            return not self.terms.waitlist and len(self.reserved) + len(self.confirmed) == self.terms.capacity
        if reason == pb.REFUSAL_REASON_ALREADY_MEMBER:
            live = [*self.reserved.values(), *self.confirmed.values(), *self.waiting.values()]
            return sum(one.customer == fact.customer for one in live) >= self.terms.seats_per_customer
        return {
            pb.REFUSAL_REASON_PRICE_CHANGED: placed.max_unit_price_minor < self.entry_price,
            pb.REFUSAL_REASON_CAMPAIGN_MISMATCH: placed.campaign != self.terms.campaign,
            pb.REFUSAL_REASON_CURRENCY_MISMATCH: placed.currency != self.terms.currency,
            pb.REFUSAL_REASON_QUANTITY: not 1 <= placed.quantity <= self.terms.max_quantity,
            pb.REFUSAL_REASON_NOT_OPEN_TO_JOIN: self.terms.solo or placed.opens_group,
        }.get(pb.RefusalReason.ValueType(reason), False)

    def _seat_waitlisted(self, event: pb.SeatWaitlisted) -> None:
        name, terms, order = event.order, self._terms(), self.order(event.order)
        self.check(self.phase == "FORMING" and terms.waitlist, f"{name} is in the waitlist of a group without one")
        self.check(order.status == "", f"{name} is in the waitlist though it was {order.status}")
        full = len(self.reserved) + len(self.confirmed) >= terms.capacity
        self.check(full or bool(self.waiting), f"{name} is in the waitlist though a seat is free")
        self.check(not 0 <= order.cancel_at < self._cause, f"{name} is in the waitlist after its cancel")
        order.status, order.customer = "WAITLISTED", event.customer
        self.waiting[name] = order

    def _member_confirmed(self, event: pb.MemberConfirmed) -> None:
        name = event.order
        order = self.reserved.pop(name, None)
        assert order is not None, f"{name} became a member without a seat"
        order.status, order.hold = "CONFIRMED", event.hold
        self.confirmed[name] = order
        self.check(event.members == len(self.confirmed), f"member {event.members}, counted {len(self.confirmed)}")

    def _seat_released(self, event: pb.SeatReleased) -> None:
        name, reason, order = event.order, event.reason, self.order(event.order)
        before = order.status
        self.check(before in LIVE, f"{name} lost a seat though it was {before or 'unknown'}")
        for held in (self.reserved, self.confirmed, self.waiting):
            held.pop(name, None)
        if reason in PHASE_OF:
            self.check(
                self.phase == PHASE_OF[reason], f"{name} released for {PHASE_OF[reason]} in a group {self.phase}"
            )
            self.check(
                reason != pb.RELEASE_REASON_GROUP_COMPLETED or before != "CONFIRMED", f"the member {name} is released"
            )
        else:
            self.check(self.phase == "FORMING", f"{name} left a group that is {self.phase}")
        if reason == pb.RELEASE_REASON_CANCELLED:
            self.check(0 <= order.cancel_at <= self._cause, f"{name} was cancelled without a request")
        if reason == pb.RELEASE_REASON_LAPSED:
            self.check(before == "RESERVED" and self.time_ms >= order.until_ms, f"{name} lapsed before its time")
        order.status = END_OF.get(reason, "RELEASED")
        if before != "WAITLISTED" and reason != pb.RELEASE_REASON_DECLINED:
            self._to_return.append(name)
