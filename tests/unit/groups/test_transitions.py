"""The transition tables name existing inputs and events and cover every status."""

from __future__ import annotations

import pytest
from groupbuy.groups.v1.decisions_pb2 import GroupEvent

from services.groups.domain.command import MONEY
from services.groups.domain.model import OrderStatus, Phase
from services.groups.domain.transitions import GROUP, ON_GROUP, ORDER, Row, find, table
from services.groups.domain.version_2 import transitions as version_2
from tests.scenarios.groups import given, opens

ORDER_INPUTS = {"opens", "joins", "cancel_requested", "order_rejected", "admission_answer", *MONEY}
TIME_INPUTS = {"reservation due", "seat free", "deadline due", "rules failed"}
#: Events of rules version 2 that follow from the state at the end of a decision, whatever its input.
OF_BALANCE = {"units_requested", "units_returned", "units_sold", "allowance_returned"}
EVENTS = {field.name for field in GroupEvent.DESCRIPTOR.oneofs_by_name["body"].fields}


VERSION_2 = [*version_2.GROUP, *version_2.ORDER]


@pytest.mark.parametrize("row", [*GROUP, *ORDER, *VERSION_2], ids=lambda row: f"{row.when[0].name}-{row.on}")
def test_rows_name_existing_inputs_and_events(row: Row) -> None:
    assert row.on in ORDER_INPUTS | TIME_INPUTS | {"cancel_group", "stock_answer"}
    assert set(row.events) <= EVENTS
    assert row.note


def test_every_event_of_the_contract_comes_from_some_row() -> None:
    assert {event for row in (*GROUP, *ORDER, *VERSION_2) for event in row.events} | OF_BALANCE == EVENTS


def test_every_phase_has_a_row_for_a_new_order() -> None:
    assert all({"opens", "joins"} <= set(ON_GROUP[phase]) for phase in Phase)


def test_every_status_without_the_funds_has_a_row_that_returns_them() -> None:
    for standing in OrderStatus:
        kept = {OrderStatus.CONFIRMED, OrderStatus.SETTLING, OrderStatus.SETTLED}
        assert ("hold_authorised" in version_2.ON_ORDER[standing]) == (standing not in kept)
        assert ("captured" in version_2.ON_ORDER[standing]) == (standing is not OrderStatus.SETTLED)


def test_every_live_order_has_a_row_for_a_release_by_payments() -> None:
    for standing in (OrderStatus.WAITLISTED, OrderStatus.RESERVED, OrderStatus.CONFIRMED, OrderStatus.SETTLING):
        assert "payment_released" in version_2.ON_ORDER[standing]


def test_an_order_that_is_known_never_falls_back_to_the_groups_rows() -> None:
    state = given(opens("a")).state
    assert find(state, "joins", "a") is None
    assert find(state, "joins", "b") is ON_GROUP[Phase.FORMING]["joins"]


def test_closed_groups_stay_closed() -> None:
    closed = {Phase.COMPLETED, Phase.EXPIRED, Phase.CANCELLED}
    assert not [row for row in GROUP if set(row.when) & closed and row.to]


def test_the_page_has_every_row_and_both_diagrams() -> None:
    page = table()
    assert page.count("stateDiagram-v2") == 2
    for row in (*GROUP, *ORDER):
        assert f"| {', '.join(one.name for one in row.when)} | {row.on}" in page
    assert page == table()
