"""The lines about a group's life: each event once, with its ids, without secrets and people."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from groupbuy.groups.v1.decisions_pb2 import GroupCancelled, GroupDecision, GroupEvent, SeatReleased
from groupbuy.orders.v1.orders_pb2 import BatchPlaceOrdersRequest
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from chassis.telemetry.event_log import DecisionEventLog, EventLog
from chassis.telemetry.logging import FIELDS
from eventlog.processors.observed_decisions import ObservedDecisions
from services.groups.processors import business_events as groups
from services.orders.api.orders import OrderServicer
from services.payments.processors import business_events as payments
from shared_kernel.topics import GROUP_INBOX, PAYMENT_INBOX
from tests.scenarios.api_call import call
from tests.scenarios.orders import reserves
from tests.unit.ops.trace.conftest import CALLER, REQUESTS
from tests.unit.ops.trace.in_memory_system import HOUR_MS, InMemorySystem
from tests.unit.orders.world import OTHER, World, place_request

PAGE = Path(__file__).resolve().parents[3] / "docs" / "logging.md"
#: Planted in orders; no line may have one of them.
SECRETS = ("card_planted_4111", "customer-planted-ann", "customer-planted-bob")
#: Events without a line: steps between the services, and details that other lines have.
NO_LINE = {
    "leader_changed", "tier_reached", "settlement_requested", "release_requested", "member_settled", "member_released",
    "member_declined", "cancel_refused", "hold_requested", "capture_requested", "void_requested", "refund_requested",
    "payment_released", "call_deferred", "call_retried", "rules_selected", "dispute_evidence_due", "suspense_approved",
    "fee_charged", "paid_out", "units_requested", "units_granted", "units_denied", "units_returned", "units_sold",
    "admission_requested", "allowance_returned", "hold_check_requested", "hold_checked",
    "member_owed",
}  # fmt: skip


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> InMemorySystem:
    caplog.set_level(logging.INFO)
    made = InMemorySystem(monkeypatch)
    for inbox, describe in ((GROUP_INBOX, groups.business_events), (PAYMENT_INBOX, payments.business_events)):
        observer = DecisionEventLog(EventLog(f"services.{inbox.writer}.events", 1_000), describe)
        made.deciders[inbox.name].decider._observed = ObservedDecisions(observer)
    return made


def events(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [{"event": one.msg, **getattr(one, FIELDS)} for one in caplog.records if hasattr(one, FIELDS)]


async def test_a_group_that_completes_has_one_line_for_each_of_its_events(
    system: InMemorySystem, caplog: pytest.LogCaptureFixture
) -> None:
    card, ann, bob = SECRETS
    leader = system.place(customer=ann, request_id=REQUESTS[0], payment_method=card)
    await system.run()
    member = system.place(
        CALLER, customer=bob, request_id=REQUESTS[1], group=f"groups/{leader.group}", payment_method=card
    )
    await system.run()
    found = events(caplog)
    assert Counter(one["event"] for one in found) == {
        "group opened": 1,
        "seat reserved": 2,
        "money held": 2,
        "member confirmed": 2,
        "group completed": 1,
        "money captured": 2,
        "group settled": 1,
    }
    assert all(one["group"] == leader.group for one in found)
    (completed,) = [one for one in found if one["event"] == "group completed"]
    assert (completed["members"], completed["unit_price_minor"], completed["trace"]) == (2, 8_900, CALLER.trace_id)
    held = [one for one in found if one["event"] == "money held"]
    assert {one["order"] for one in held} == {leader.order, member.order}
    assert {one["currency"] for one in held} == {"CNY"}
    text = json.dumps(found)
    assert not [secret for secret in SECRETS if secret in text]


async def test_decisions_that_are_repeated_have_no_second_line(
    system: InMemorySystem, caplog: pytest.LogCaptureFixture
) -> None:
    leader = system.place(customer="ann", request_id=REQUESTS[0])
    await system.run()
    count = len(events(caplog))
    # The same fact again: the decider skips what it has decided.
    system.place(customer="ann", request_id=REQUESTS[0])
    await system.run()
    assert len(events(caplog)) == count
    # A tick that is not due yet.
    system.tick(GROUP_INBOX, leader.group, system.now_ms)
    await system.run()
    assert len(events(caplog)) == count


async def test_an_expired_group_and_its_released_money(
    system: InMemorySystem, caplog: pytest.LogCaptureFixture
) -> None:
    leader = system.place(customer="ann", request_id=REQUESTS[0])
    await system.run()
    system.tick(GROUP_INBOX, leader.group, system.now_ms + HOUR_MS)
    await system.run()
    assert Counter(one["event"] for one in events(caplog))["group expired"] == 1
    (voided,) = [one for one in events(caplog) if one["event"] == "hold voided"]
    assert (voided["order"], voided["amount_minor"]) == (leader.order, 8_900)


def test_the_seats_of_a_group_that_closes_have_no_lines() -> None:
    released = [GroupEvent(seat_released=SeatReleased(order=f"o{number}")) for number in range(1_000)]
    decision = GroupDecision(group="g", version=7, events=[GroupEvent(cancelled=GroupCancelled(reason="x")), *released])
    (line,) = groups.business_events(decision.SerializeToString())
    # The reason is a text of the merchant.
    assert (line.name, line.fields) == ("group cancelled", {"group": "g", "version": 7})


def test_every_event_has_a_line_or_is_known_to_have_none() -> None:
    known = groups.EVENTS.keys() | payments.EVENTS.keys() | NO_LINE
    for message in (GroupEvent, PaymentEvent):
        kinds = {field.name for field in message.DESCRIPTOR.oneofs[0].fields}
        assert kinds <= known
    for message, table in ((GroupEvent, groups.EVENTS), (PaymentEvent, payments.EVENTS)):
        for body, (_, fields) in table.items():
            inner = message.DESCRIPTOR.fields_by_name[body].message_type
            assert inner is not None
            assert set(fields) <= set(inner.fields_by_name), body
            assert not {"customer", "payment_method", "action_url", "hold"} & set(fields)


def test_the_page_about_logs_lists_the_events_and_no_other() -> None:
    rows = re.findall(r"^\| (orders|groups|payments) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {service: set(names.split(", ")) for service, names in rows}
    assert listed == {
        "orders": {"order placed"},
        "groups": {name for name, _ in groups.EVENTS.values()},
        "payments": {name for name, _ in payments.EVENTS.values()},
    }


@pytest.mark.parametrize("together", [False, True])
async def test_an_order_has_one_line_when_its_fact_is_in_the_log(
    caplog: pytest.LogCaptureFixture, together: bool
) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    world.decides = reserves
    log = EventLog("services.orders.events", 1_000)
    world.orders = OrderServicer(world, world.campaigns, world, now_ms=lambda: 0, event_log=log)
    request = place_request(customer="customer-planted-ann", payment_method="card_planted_4111", request_id=OTHER)
    for _ in range(2):
        if together:
            await world.orders.BatchPlaceOrders(BatchPlaceOrdersRequest(requests=[request]), call())
        else:
            await world.orders.PlaceOrder(request, call())
    (line,) = events(caplog)
    assert (line["event"], line["campaign"], line["quantity"]) == ("order placed", "mug", 2)
    assert line["trace"] == line["order"].replace("-", "")
    assert not [secret for secret in SECRETS if secret in caplog.text + json.dumps(line)]
