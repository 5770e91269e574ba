"""The auditor's own fold of one group's seats: who may have one, who waits, and why somebody was refused.

Shares no code with the rules or with their evolve: it counts seats and members in its own way. Must never be told what
the production's state is.
"""

from __future__ import annotations

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_AT_DEADLINE, Campaign

from tests.simulation.audit.order import DAY_MS, END_OF, LIVE, PHASE_OF, Order
from tests.simulation.audit.violation import Violation


class SeatAudit:
    """One group: its seats and who may have one. The group's own life and its money are in `audit_groups`."""

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
        self.tiers_told = 0
        self.completed: list[str] = []
        self.unit_price = 0
        self.time_ms = 0
        self.settled = False
        self.defects = 0
        self.cancel_asked = False
        #: Orders of the decision at hand that gave up a seat and whose money must be asked back.
        self._owing: list[str] = []
        self._cause = -1
        self._campaign: Campaign | None = None
        self._failed = False

    def order(self, name: str) -> Order:
        found = self.orders.get(name)
        if found is None:
            found = self.orders[name] = Order()
        return found

    def fail(self, what: str) -> None:
        raise Violation("group's rules", self.key, what)

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.fail(what)

    def decided(self, decision: pb.GroupDecision, campaign: Campaign | None) -> None:
        """Folds the next decision. `campaign` stands beside the input that caused it."""
        self.time_ms = decision.time_ms
        self._cause = decision.cause
        self._campaign = campaign
        self._owing = []
        self._failed = any(event.HasField("faulted") for event in decision.events)
        for event in decision.events:
            kind = event.WhichOneof("body")
            assert kind is not None
            getattr(self, f"_{kind}")(getattr(event, kind))
        self._after()

    def _after(self) -> None:
        for name in self._owing:
            self.check(self.orders[name].release_requested, f"{name} lost its seat, and its money was not asked back")
        if self.phase == "FORMING":
            terms = self._terms()
            now_ms = self.time_ms
            self.check(now_ms < self.deadline_ms, f"still forming at {now_ms - self.deadline_ms} ms after its deadline")
            for name, order in self.reserved.items():
                self.check(now_ms < order.until_ms, f"{name} keeps a seat that lapsed {now_ms - order.until_ms} ms ago")
            full = len(self.confirmed) >= terms.capacity
            self.check(not full or terms.close_policy == CLOSE_POLICY_AT_DEADLINE, "full, and not completed")
            free = terms.capacity - len(self.confirmed) - len(self.reserved)
            self.check(free <= 0 or not self.waiting, "a seat is free while somebody waits")
        elif self.phase == "COMPLETED":
            self.check(not self.reserved and not self.waiting, "completed, and somebody still has a seat unpaid")
            for name in self.completed:
                self.check(self.orders[name].to_capture > 0, f"{name} is a member and was not asked to pay")
        elif self.phase in ("EXPIRED", "CANCELLED"):
            self.check(not (self.reserved or self.confirmed or self.waiting), f"{self.phase}, and not all are let go")

    def _terms(self) -> pb.Terms:
        assert self.terms is not None, "no terms"
        return self.terms

    @property
    def entry_price(self) -> int:
        """The most that one piece costs here."""
        terms = self._terms()
        return terms.solo_price_minor if terms.solo else terms.tiers[0].unit_price_minor

    # Seats -------------------------------------------------------------------------------------------------------

    def _seat_reserved(self, event: pb.SeatReserved) -> None:
        name, terms, order = event.order, self._terms(), self.order(event.order)
        self.check(self.phase == "FORMING", f"{name} got a seat in a group that is {self.phase}")
        self.check(order.status in ("", "WAITLISTED"), f"{name} got a seat though it was {order.status}")
        if order.status:
            self.check(next(iter(self.waiting)) == name, f"{name} overtook others who wait")
            del self.waiting[name]
        self.check(len(self.reserved) + len(self.confirmed) < terms.capacity, f"{name} got a seat beyond the capacity")
        seats = [one for one in (*self.reserved.values(), *self.confirmed.values()) if one.customer == event.customer]
        self.check(len(seats) < terms.seats_per_customer, f"{event.customer} got one seat too many")
        self.check(order.cancel_at < 0 or order.cancel_at >= self._cause, f"{name} got a seat after it was cancelled")
        fact = order.placed
        assert fact is not None, f"a seat for {name}, which nobody placed"
        placed = fact.placed
        same = (fact.customer, placed.quantity, placed.request_sha256, placed.payment_method, placed.currency)
        told = (event.customer, event.quantity, event.request_sha256, event.payment_method, event.currency)
        self.check(told == same, f"{name} was seated by another request than its first")
        self.check(placed.campaign == terms.campaign, f"{name} names another campaign")
        self.check(terms.currency == event.currency, f"{name} pays in another currency")
        self.check(1 <= event.quantity <= terms.max_quantity, f"{name} got a seat for {event.quantity} pieces")
        self.check(event.hold_amount_minor == self.entry_price * event.quantity, f"{name} is to be held another amount")
        self.check(self.entry_price <= placed.max_unit_price_minor, f"{name} never agreed to this price")
        until_ms = min(self.time_ms + terms.hold_window_ms, self.deadline_ms)
        self.check(event.reserved_until_ms == until_ms, f"{name} has another time to pay than its terms say")
        self.check(event.hold_until_ms >= self.deadline_ms + DAY_MS, f"the hold of {name} need not last")
        order.status = "RESERVED"
        order.customer, order.quantity, order.method = event.customer, event.quantity, event.payment_method
        order.hold_amount, order.until_ms = event.hold_amount_minor, until_ms
        self.reserved[name] = order

    def _seat_refused(self, event: pb.SeatRefused) -> None:
        name, order = event.order, self.order(event.order)
        self.check(order.status in ("", "STRAY"), f"{name} was refused though it was {order.status}")
        self.check(order.placed is None or order.placed.placed.request_sha256 == event.request_sha256
                   or not event.request_sha256, f"{name} was refused by another request than its first")  # fmt: skip
        self.check(self._stands(event.reason, order), f"{name} was refused: {pb.RefusalReason.Name(event.reason)}")
        order.status = "CANCELLED" if event.reason == pb.REFUSAL_REASON_CANCELLED else "REFUSED"

    def _stands(self, reason: int, order: Order) -> bool:
        """Whether a refusal is true."""
        if reason == pb.REFUSAL_REASON_CANCELLED:
            return 0 <= order.cancel_at <= self._cause or order.status == "STRAY"
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
        self.check(self.phase == "FORMING" and terms.waitlist, f"{name} waits where nobody can")
        self.check(order.status == "", f"{name} waits though it was {order.status}")
        full = len(self.reserved) + len(self.confirmed) >= terms.capacity
        self.check(full or bool(self.waiting), f"{name} waits though a seat is free")
        self.check(not 0 <= order.cancel_at < self._cause, f"{name} waits after it was cancelled")
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
                self.phase == PHASE_OF[reason], f"{name} let go as of {PHASE_OF[reason]} in a group {self.phase}"
            )
            self.check(
                reason != pb.RELEASE_REASON_GROUP_COMPLETED or before != "CONFIRMED", f"{name} is a member, and let go"
            )
        else:
            self.check(self.phase == "FORMING", f"{name} left a group that is {self.phase}")
        if reason == pb.RELEASE_REASON_CANCELLED:
            self.check(0 <= order.cancel_at <= self._cause, f"{name} was cancelled though nobody asked")
        if reason == pb.RELEASE_REASON_LAPSED:
            self.check(before == "RESERVED" and self.time_ms >= order.until_ms, f"{name} lapsed before its time")
        order.status = END_OF.get(reason, "RELEASED")
        if before != "WAITLISTED" and reason != pb.RELEASE_REASON_DECLINED:
            self._owing.append(name)
