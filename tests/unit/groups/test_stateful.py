"""Goal: seats, prices and members of one group are right after any input. Method: a Hypothesis state machine plays
shoppers, payments and the clock, and repeats any earlier input at any time.

The expected state is counted from inputs and events, without code of evolve.
"""

from __future__ import annotations

from typing import Any

from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_AT_DEADLINE, Campaign, Tier
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.scenarios.facts import duration
from tests.scenarios.groups import (
    FIRST,
    HOLD_WINDOW,
    MINUTE,
    SECOND_TIER,
    START_MS,
    Group,
    authorised,
    campaign,
    cancel_group,
    cancels,
    capture_declined,
    captured,
    declined,
    joins,
    opens,
    released,
    tick,
)

TIERS = [Tier(members=2, unit_price_minor=FIRST), Tier(members=3, unit_price_minor=SECOND_TIER)]
OFFERS = (
    campaign(capacity=3, tiers=TIERS),
    campaign(capacity=3, waitlist=True, leader_discount_minor=10, seats_per_customer=2),
    campaign(capacity=4, close_policy=CLOSE_POLICY_AT_DEADLINE, waitlist=True, hold_window=duration(2 * HOLD_WINDOW)),
    campaign(tiers=[Tier(members=4, unit_price_minor=FIRST)], house_fill_members=2),
)
#: Most shoppers come once; the leader is Ann.
CUSTOMERS = st.sampled_from(("", "", "", "", "ann", "bob"))
#: Selects one of the existing orders.
WHICH = st.integers(0, 999)
RARELY = st.sampled_from((*(False,) * 7, True))
OFTEN = st.sampled_from((True, True, False))
QUANTITIES = st.sampled_from((1, 1, 2, 2, 5, 5, 6))
LIVE = ("waiting", "reserved", "member")
CLOSED = ("completed", "expired", "cancelled")


class Count:
    """The places of orders, by the events alone: waiting, reserved, member, settling, or a final place."""

    def __init__(self, offer: Campaign) -> None:
        self.offer = offer
        self.where: dict[str, str] = {}
        self.customers: dict[str, str] = {}
        self.quantities: dict[str, int] = {}
        #: In the order of confirmation.
        self.members: list[str] = []
        self.leader = ""
        self.deadline_ms = 0
        self.closings: list[str] = []
        self.price = self.charged = 0
        #: Requests to payments, by order: holds, captures, releases.
        self.to_hold: dict[str, int] = {}
        self.until_ms: dict[str, int] = {}
        self.to_charge: dict[str, int] = {}
        self.to_release: set[str] = set()

    def at(self, *places: str) -> list[str]:
        return [order for order, where in self.where.items() if where in places]

    def fold(self, event: Any, held: dict[str, int], at_ms: int) -> None:
        """Folds one event. `held` has the authorised holds."""
        body = event.WhichOneof("body")
        what = getattr(event, body)
        order = getattr(what, "order", "")
        match body:
            case "opened":
                self.leader, self.deadline_ms = what.leader_order, what.deadline_ms
            case "seat_waitlisted":
                assert self._move(order, (None,), "waiting")
            case "seat_reserved":
                assert order not in self.at("waiting") or order == self.at("waiting")[0], "others have waited longer"
                assert self._move(order, (None, "waiting"), "reserved")
                assert what.hold_amount_minor == self.offer.tiers[0].unit_price_minor * self.quantities[order]
                assert order not in self.to_hold
                self.to_hold[order] = what.hold_amount_minor
                window_ms = self.offer.hold_window.seconds * 1_000
                self.until_ms[order] = what.reserved_until_ms
                assert what.reserved_until_ms == min(at_ms + window_ms, self.deadline_ms)
            case "seat_refused":
                assert self._move(order, (None,), "refused")
            case "member_confirmed":
                assert self._move(order, ("reserved",), "member")
                assert held[order] == self.to_hold[order], "a member without its hold"
                self.members.append(order)
            case "seat_released":
                was = self.where[order]
                assert self._move(order, LIVE, "released")
                self.members = [one for one in self.members if one != order]
                assert (order in self.to_hold) == (was != "waiting")
            case "leader_changed":
                self.leader = order
            case "completed":
                self._complete(what, at_ms)
            case "expired":
                least = min(self.offer.tiers[0].members, self.offer.house_fill_members or 1_000)
                assert at_ms >= self.deadline_ms
                assert len(self.members) < least, "expired though it could complete"
            case "settlement_requested":
                discount = self.offer.leader_discount_minor if order == self.leader else 0
                assert self._move(order, ("member",), "settling")
                assert what.amount_minor == (self.price - discount) * self.quantities[order] <= held[order]
                self.to_charge[order] = what.amount_minor
            case "release_requested":
                assert self.where[order] not in (*LIVE, "settling", "settled")
                assert order not in self.to_release, "released twice"
                self.to_release.add(order)
            case "member_settled":
                assert self._move(order, ("settling",), "settled")
                assert what.amount_minor == self.to_charge[order]
                self.charged += what.amount_minor
            case "member_declined":
                assert self._move(order, ("settling",), "declined")
            case "settled":
                assert not self.at("settling")
                assert what.captured_minor == self.charged
            case "faulted":
                raise AssertionError(what.error)
        if body in CLOSED:
            self.closings.append(body)

    def _move(self, order: str, before: tuple[str | None, ...], after: str) -> bool:
        was, self.where[order] = self.where.get(order), after
        return was in before

    def _complete(self, completed: Any, at_ms: int) -> None:
        count = len(self.members)
        reached = [tier.unit_price_minor for tier in self.offer.tiers if tier.members <= count]
        at_deadline = at_ms >= self.deadline_ms
        full = count == self.offer.capacity and self.offer.close_policy != CLOSE_POLICY_AT_DEADLINE
        assert list(completed.orders) == self.members
        assert at_deadline or full
        assert completed.house_filled == (not reached)
        assert reached or 0 < self.offer.house_fill_members <= count
        assert completed.leader_order == self.leader
        assert self.leader in self.members
        self.price = min(reached, default=self.offer.tiers[0].unit_price_minor)
        assert completed.unit_price_minor == self.price


class GroupMachine(RuleBasedStateMachine):
    """One group and the senders of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.group = Group()
        self.past: list[bytes] = []
        #: Payment events so far: holds by order, and the last event of each order.
        self.held: dict[str, int] = {}
        self.answered: set[str] = set()
        self.charged: set[str] = set()
        self.released: set[str] = set()

    def send(self, *values: bytes, after_ms: int = 0) -> None:
        for value in values:
            self.past.append(value)
            self._hear(value, after_ms)
            after_ms = 0

    def _hear(self, value: bytes, after_ms: int) -> None:
        self.group.when(value, at=self.group.now_ms - START_MS + after_ms)
        for event in self.group.events:
            self.count.fold(event, self.held, self.group.now_ms)

    # Shoppers and the shop --------------------------------------------------------------------------------------

    @initialize(offer=st.sampled_from(OFFERS), quantity=st.integers(1, 3))
    def a_leader_opens(self, offer: Campaign, quantity: int) -> None:
        self.count = Count(offer)
        self.count.customers["o0"], self.count.quantities["o0"] = "ann", quantity
        self.send(opens("o0", offer, customer="ann", quantity=quantity))
        self._answer("o0", paid=True)

    @rule(customers=st.lists(CUSTOMERS, min_size=1, max_size=3), quantity=QUANTITIES, early=RARELY)
    def friends_join(self, customers: list[str], quantity: int, early: bool) -> None:
        for name in customers:
            order = f"o{len(self.count.customers)}"
            customer = name or f"customer of {order}"
            self.count.customers[order], self.count.quantities[order] = customer, quantity
            # Sometimes the cancel comes before its order.
            self.send(*[cancels(order)] * early, joins(order, customer=customer, quantity=quantity))
            self._check_answer(order, early)

    def _check_answer(self, order: str, early: bool) -> None:
        """An order is decided at once, and refused only with a reason."""
        count, offer, where = self.count, self.count.offer, self.count.where[order]
        seats = [one for one in count.at(*LIVE) if count.customers[one] == count.customers[order] and one != order]
        most = max(offer.seats_per_customer, 1)
        taken = count.at("reserved", "member", "waiting")
        full = len([one for one in taken if one != order]) >= offer.capacity
        if count.closings or early or len(seats) >= most or count.quantities[order] > offer.max_quantity:
            assert where == "refused"
        elif not full:
            assert where == "reserved"
        else:
            assert where == ("waiting" if offer.waitlist else "refused")

    @rule(which=WHICH, really=RARELY)
    def somebody_leaves(self, which: int, really: bool) -> None:
        if really:
            orders = list(self.count.customers)
            order = orders[which % len(orders)]
            self.send(cancels(order))
            assert self.count.where[order] not in LIVE

    @rule(really=RARELY, surely=RARELY)
    def the_shop_cancels(self, really: bool, surely: bool) -> None:
        if really and surely:
            self.send(cancel_group())
            assert self.count.closings

    # Payments: answers each request once, possibly late --------------------------------------------------------------

    def _to_answer(self) -> list[str]:
        return [order for order in self.count.to_hold if order not in self.answered]

    @rule(which=WHICH, unpaid=RARELY, all_of_them=OFTEN)
    @precondition(lambda self: self._to_answer())
    def holds_are_answered(self, which: int, unpaid: bool, all_of_them: bool) -> None:
        requests = self._to_answer()
        for order in requests if all_of_them else [requests[which % len(requests)]]:
            self._answer(order, paid=not unpaid)

    def _answer(self, order: str, *, paid: bool) -> None:
        self.answered.add(order)
        if paid:
            self.held[order] = self.count.to_hold[order]
        was = self.count.where[order]
        self.send(authorised(order, self.held[order]) if paid else declined(order))
        if was == "reserved":
            assert self.count.where[order] in (("member", "settling") if paid else ("released",))

    def _owed(self) -> list[str]:
        return [*(self.count.to_charge.keys() - self.charged), *(self.count.to_release - self.released)]

    @rule(which=WHICH)
    @precondition(lambda self: self._owed())
    def money_moves(self, which: int) -> None:
        owed = sorted(self._owed())
        order = owed[which % len(owed)]
        if order in self.count.to_release:
            self.released.add(order)
            self.send(released(order))
        else:
            self.charged.add(order)
            self.send(captured(order, self.count.to_charge[order]) if which % 5 else capture_declined(order))

    # Time, and what comes again -----------------------------------------------------------------------------------

    @rule(after_ms=st.sampled_from((*(1,) * 9, MINUTE, HOLD_WINDOW - 1, HOLD_WINDOW)))
    def time_passes(self, after_ms: int) -> None:
        self.send(tick(), after_ms=after_ms)

    @rule(before_ms=st.integers(-1, 1), really=RARELY)
    @precondition(lambda self: len(self.count.members) > 1 and not self.count.closings)
    def the_deadline_comes(self, before_ms: int, really: bool) -> None:
        left_ms = self.count.deadline_ms - before_ms - self.group.now_ms
        if really and left_ms > 0:
            self.send(tick(), after_ms=left_ms)

    @rule(which=WHICH)
    def an_old_input_comes_again(self, which: int) -> None:
        declined, version = self.count.at("declined"), self.group.decided.version
        self._hear(self.past[which % len(self.past)], 0)
        # A hold of a member with a declined capture is returned; other late events change nothing.
        for event in self.group.events:
            assert event.HasField("release_requested")
            assert event.release_requested.order in declined
        assert self.group.decided.version == version + len(self.group.events)

    # Invariants --------------------------------------------------------------------------------------------

    @invariant()
    def nobody_has_a_seat_too_many(self) -> None:
        seated = self.count.at("reserved", "member")
        assert len(seated) <= self.count.offer.capacity
        customers = [self.count.customers[order] for order in self.count.at(*LIVE)]
        assert all(customers.count(one) <= max(self.count.offer.seats_per_customer, 1) for one in customers)

    @invariant()
    def no_seat_is_left_to_those_who_do_not_pay_or_from_those_who_wait(self) -> None:
        count, offer = self.count, self.count.offer
        if not count.closings:
            assert not count.at("waiting") or len(count.at("reserved", "member")) == offer.capacity
            assert len(count.members) < offer.capacity or offer.close_policy == CLOSE_POLICY_AT_DEADLINE
            assert all(self.group.now_ms < count.until_ms[order] for order in count.at("reserved"))

    @invariant()
    def a_forming_group_is_led_by_who_came_first_of_those_who_pay(self) -> None:
        if not self.count.closings:
            assert self.count.leader in (*self.count.at("reserved", "member"), "")
            assert self.count.leader or not self.count.members

    @invariant()
    def it_closes_once_and_in_time(self) -> None:
        assert len(self.count.closings) == (not self.count.at(*LIVE) and bool(self.count.closings))
        assert self.count.closings or self.group.now_ms < self.count.deadline_ms

    @invariant()
    def the_group_counts_as_we_do(self) -> None:
        state, count = self.group.state, self.count
        assert state.phase.name.lower() == (count.closings or ["forming"])[0]
        assert list(state.waitlist) == count.at("waiting")
        assert set(state.reserved) == set(count.at("reserved"))
        assert set(state.confirmed) == set(count.at("member", "settling"))
        assert state.captured_minor == count.charged

    def teardown(self) -> None:
        """Ends all open payments; then every order has a final place."""
        if not hasattr(self, "count"):
            return
        while self._to_answer():
            self._answer(self._to_answer()[0], paid=True)
        self.send(tick(), after_ms=2 * 60 * MINUTE)
        while self._owed():
            self.money_moves(1)
        assert self.group.state.is_done
        assert not self.count.at(*LIVE, "settling")
        assert self.count.where.keys() == self.count.customers.keys()


TestGroup = GroupMachine.TestCase
TestGroup.settings = settings(max_examples=70, stateful_step_count=40, deadline=None, derandomize=True)
