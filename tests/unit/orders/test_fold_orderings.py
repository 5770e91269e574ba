"""Goal: the orders shown do not depend on the order in which the three topics are read.

Method: stories and random logs are folded in interleavings that keep the order of each topic, some with parts read
twice. The result is always the same, and revisions only rise.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.orders.v1.orders_pb2 import Order
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orders.api.mapping import order_message
from services.orders.domain.fold import OrdersFold
from services.orders.domain.ids import OrderName
from services.orders.domain.model import GroupOrders
from tests.scenarios import group_events as ge
from tests.scenarios import orders as h
from tests.scenarios import payment_events as pe
from tests.scenarios.facts import GROUP
from tests.scenarios.orders import HISTORIES, History

ORDERS = ("a", "b", "c")


def shown(state: GroupOrders) -> dict[str, Order]:
    return {
        order: order_message(OrderName(GROUP, order), state, view)
        for order in sorted(state.orders)
        if (view := state.find(order)) is not None
    }


def fold(records: Sequence[h.Record]) -> GroupOrders:
    """Folds records and checks the invariants after each of them."""
    state = OrdersFold().initial(GROUP)
    revisions: dict[str, int] = {}
    ends: dict[str, int] = {}
    for record in records:
        record.fold(state)
        for order, view in state.orders.items():
            assert view.revision >= revisions.get(order, 0)
            revisions[order] = view.revision
            assert view.seat_state == ends.get(order, view.seat_state)
            if view.final:
                ends[order] = view.seat_state
            assert min(view.held_minor, view.captured_minor, view.refunded_minor) >= 0
    return state


@st.composite
def interleavings(draw: st.DrawFn, history: History) -> list[h.Record]:
    topics: list[list[h.Record]] = [list(history.facts), list(history.decisions), list(history.payments)]
    turns = draw(st.permutations([topic for topic, records in enumerate(topics) for _ in records]))
    upcoming = [iter(records) for records in topics]
    return [next(upcoming[topic]) for topic in turns]


group_events = st.one_of(
    st.builds(h.opened, st.sampled_from(ORDERS)),
    st.builds(h.reserved, st.sampled_from(ORDERS)),
    st.builds(h.waitlisted, st.sampled_from(ORDERS)),
    st.builds(h.refused, st.sampled_from(ORDERS)),
    st.builds(ge.member_confirmed, st.sampled_from(ORDERS)),
    st.builds(ge.seat_released, st.sampled_from(ORDERS), st.sampled_from(g.ReleaseReason.values()[1:])),
    st.builds(ge.completed, st.sampled_from(ORDERS)),
    st.builds(h.settled, st.sampled_from(ORDERS)),
    st.builds(ge.member_declined, st.sampled_from(ORDERS)),
    st.builds(ge.member_released, st.sampled_from(ORDERS)),
    st.builds(ge.cancel_refused, st.sampled_from(ORDERS)),
)
payment_events = st.one_of(
    st.builds(pe.action_required, st.sampled_from(ORDERS)),
    st.builds(h.authorised, st.sampled_from(ORDERS), sale=st.booleans()),
    st.builds(pe.hold_declined, st.sampled_from(ORDERS)),
    st.builds(h.captured, st.sampled_from(ORDERS)),
    st.builds(pe.capture_declined, st.sampled_from(ORDERS)),
    st.builds(h.voided, st.sampled_from(ORDERS)),
    st.builds(h.hold_lapsed, st.sampled_from(ORDERS)),
    st.builds(pe.refunded, st.sampled_from(ORDERS), st.integers(1, 20_000), st.sampled_from(["", "r"])),
    st.builds(pe.payment_released, st.sampled_from(ORDERS)),
    st.builds(pe.suspense_recorded, st.sampled_from(ORDERS), st.integers(1, 20_000), st.sampled_from(["", "second"])),
)
facts = st.one_of(
    st.builds(h.placed, st.sampled_from(ORDERS), st.integers(1, 9_000), opens=st.booleans()),
    st.builds(h.cancel_requested, st.sampled_from(ORDERS)),
)


@st.composite
def logs(draw: st.DrawFn) -> History:
    """Random logs. No decider writes them, but the result must be independent of the reading order all the same."""
    group, payments = h.group_log(), h.payment_log()
    for time_ms, events in enumerate(draw(st.lists(st.lists(group_events, min_size=1, max_size=3), max_size=5))):
        group.decide(1_000 + time_ms, *events)
    for time_ms, money in enumerate(draw(st.lists(st.lists(payment_events, min_size=1, max_size=3), max_size=5))):
        payments.decide(1_000 + time_ms, *money)
    return History(draw(st.lists(facts, max_size=4)), group.records, payments.records)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_every_interleaving_of_a_story_gives_the_same_orders(data: st.DataObject) -> None:
    history = data.draw(st.sampled_from(HISTORIES))()
    plain = fold([*history.facts, *history.decisions, *history.payments])
    assert shown(fold(data.draw(interleavings(history)))) == shown(plain)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_every_interleaving_of_any_logs_gives_the_same_orders(data: st.DataObject) -> None:
    history = data.draw(logs())
    assert shown(fold(data.draw(interleavings(history)))) == shown(fold(data.draw(interleavings(history))))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_records_read_twice_count_once(data: st.DataObject) -> None:
    history = data.draw(st.sampled_from(HISTORIES))()
    records = data.draw(interleavings(history))
    to = data.draw(st.integers(0, len(records)))
    since = data.draw(st.integers(0, to))
    assert shown(fold([*records[:to], *records[since:]])) == shown(fold(records))


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_the_fold_continues_from_an_encoded_state(data: st.DataObject) -> None:
    history = data.draw(st.sampled_from(HISTORIES))()
    records = data.draw(interleavings(history))
    cut = data.draw(st.integers(0, len(records)))
    state: GroupOrders = pickle.loads(pickle.dumps(fold(records[:cut])))
    for record in records[cut:]:
        record.fold(state)
    assert shown(state) == shown(fold(records))
