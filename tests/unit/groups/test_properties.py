"""The invariants of a group hold after every input, for any order and any duplicates.

Hypothesis draws the inputs. The checks compare the events of the log with the state.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_AT_DEADLINE, Tier
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.groups.domain.decide import due
from services.groups.domain.model import OrderStatus, Phase
from services.groups.domain.transitions import find
from tests.scenarios.facts import duration
from tests.scenarios.groups import (
    FIRST,
    HOLD_WINDOW,
    MINUTE,
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
    rejected,
    released,
    tick,
)

# The same histories in each run; the simulator searches for new ones.
RUNS = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
ORDERS = st.sampled_from([f"o{number}" for number in range(8)])
CUSTOMERS = st.sampled_from(["ann", "bob", "cem", "dee", "eva"])
OFFERS = [
    campaign(capacity=3, max_quantity=2),
    campaign(capacity=3, waitlist=True, leader_discount_minor=10, seats_per_customer=2),
    campaign(capacity=4, close_policy=CLOSE_POLICY_AT_DEADLINE, hold_window=duration(2 * HOLD_WINDOW)),
    campaign(tiers=[Tier(members=4, unit_price_minor=FIRST)], house_fill_members=2, waitlist=True),
]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """Inputs with the time since the one before. Most are expected inputs, some are not."""
    offer = draw(st.sampled_from(OFFERS))
    placing = st.builds(lambda order, customer: joins(order, customer=customer), ORDERS, CUSTOMERS)
    paying = st.builds(authorised, ORDERS, st.sampled_from([FIRST, FIRST, FIRST, FIRST - 1]))
    others = [st.builds(make, ORDERS) for make in (cancels, declined, captured, capture_declined, released, rejected)]
    opening = st.builds(lambda order, solo: opens(order, offer, solo=solo), ORDERS, st.booleans())
    rare = st.one_of(opening, st.just(cancel_group()), st.just(tick()))
    inputs = st.one_of(placing, placing, paying, paying, *others, rare)
    waits = st.sampled_from([0, 0, 0, 0, 1, MINUTE, HOLD_WINDOW - 1, HOLD_WINDOW])
    first = [(0, opens("o0", offer, solo=draw(st.integers(0, 9)) == 0))]
    return first + draw(st.lists(st.tuples(waits, inputs), max_size=60))


class Witness:
    """Facts of the log so far, read without code of the domain."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.confirmed: list[str] = []
        self.seated: set[str] = set()
        self.ends: Counter[str] = Counter()
        self.closings: list[str] = []

    def observe(self, event: Any, capacity: int) -> None:
        body = event.WhichOneof("body")
        message = getattr(event, body)
        if body == "seat_reserved":
            self.seated.add(message.order)
            assert len(self.seated) <= capacity
        elif body == "member_confirmed":
            self.confirmed.append(message.order)
            assert message.members == len(self.confirmed)
        elif body in ("seat_released", "member_settled", "member_declined", "seat_refused"):
            self.ends[message.order] += 1
            self.seated.discard(message.order)
            if body == "seat_released" and message.order in self.confirmed:
                self.confirmed.remove(message.order)
        elif body in ("completed", "expired", "cancelled"):
            self.closings.append(body)
            if body == "completed":
                assert list(message.orders) == self.confirmed
                assert message.leader_order in self.confirmed
        self.events.append(event)

    def once(self, body: str) -> None:
        """Asserts that an order has at most one such event."""
        orders = [getattr(event, body).order for event in self.events if event.WhichOneof("body") == body]
        assert len(orders) == len(set(orders)), body


@RUNS
@given(histories())
def test_the_invariants_of_a_group_hold_after_every_input(history: list[tuple[int, bytes]]) -> None:
    group, witness = Group(), Witness()
    at = 0
    for wait, value in history:
        at += wait
        # `when` also folds the decision into a second group and compares.
        group.when(value, at=at)
        capacity = 0 if group.state.terms is None else group.state.terms.capacity
        for event in group.events:
            witness.observe(event, capacity)
        check(group, witness)
    group.when(tick(), at=at + 24 * 60 * MINUTE)
    for event in group.events:
        witness.observe(event, capacity)
    check(group, witness)
    assert group.state.phase is not Phase.FORMING
    for order in list(group.state.ended) + list(group.state.confirmed):
        group.when(captured(order), released(order))
    assert group.state.is_done or group.state.phase is Phase.UNOPENED
    group.when(*(value for _, value in history))
    assert not [line for line in group.lines if line.split()[0] in ("seat_reserved", "opened")]


def check(group: Group, witness: Witness) -> None:
    state = group.state
    assert len(witness.closings) <= 1
    assert all(count == 1 for count in witness.ends.values())
    for body in ("seat_reserved", "release_requested", "member_released", "cancel_refused", "settlement_requested"):
        witness.once(body)
    live = {*state.reserved, *state.confirmed, *state.waitlist}
    assert not live & state.ended.keys()
    if state.phase is Phase.FORMING:
        assert set(witness.confirmed) == set(state.confirmed)
        assert state.leader == "" or state.leader in state.reserved or state.leader in state.confirmed
        # A group without a leader has no confirmed member, and a forming group always has a timer.
        assert state.leader or not state.confirmed
        assert sum(state.customers.values()) == len(live)
        assert state.terms is None or max(state.customers.values(), default=0) <= state.terms.seats_per_customer
        next_ms = due(state)
        assert next_ms is not None and next_ms > group.now_ms
        assert [seat.until_ms for seat in state.reserved.values()] == sorted(
            s.until_ms for s in state.reserved.values()
        )
    else:
        assert due(state) is None
    assert group.decided.version == len(group.log)


@RUNS
@given(histories())
def test_every_row_leads_only_to_its_events_and_states(history: list[tuple[int, bytes]]) -> None:
    group = Group()
    at = 0
    for wait, value in history:
        at += wait
        group.when(tick(), at=at)
        before: dict[str, tuple[Any, OrderStatus, Phase]] = {}
        for item in group.domain.decode_input(value).items:
            row = find(group.state, item.kind, item.order)
            before[item.order] = (row, group.state.status(item.order), group.state.phase)
        group.when(value)
        bodies = {str(event.WhichOneof("body")) for event in group.events}
        for order, (row, status, phase) in before.items():
            # The same decision can give a free seat to the waitlist.
            assert bodies <= {"seat_reserved", *(row.events if row else ())}
            if row is None:
                assert not bodies
            elif row.to and status in row.when and isinstance(row.when[0], OrderStatus):
                assert group.state.status(order) in (*row.to, status)
            elif row.to and phase in row.when and isinstance(row.when[0], Phase):
                assert group.state.phase in (*row.to, phase)


@RUNS
@given(histories())
def test_late_duplicates_of_all_inputs_change_nothing(history: list[tuple[int, bytes]]) -> None:
    # A process that was frozen copies records that others copied long before.
    group = Group()
    at = 0
    for wait, value in history:
        at += wait
        group.when(value, at=at)
    group.when(tick(), at=at + 24 * 60 * MINUTE)
    # Release requests that payments still needs can follow once; after that nothing changes.
    values = [value for _, value in history]
    group.when(*values)
    answered = {line.split()[0] for line in group.lines}
    releases = {"release_requested", "member_released"}
    assert answered <= releases | {"cancel_refused", "member_settled", "member_declined"} | {
        "settled",
        "seat_refused",
    }
    group.when(*values).when(*values).then_nothing()
    assert group.now_ms >= START_MS
