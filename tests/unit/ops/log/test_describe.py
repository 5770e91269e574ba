"""Every event of the contract has a text for people."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, PaymentEvent

from ops.log.rendering import describe
from ops.log.rendering.decode import as_object, line
from ops.terminal.amounts import amount
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_INBOX
from tests.scenarios.facts import GROUP
from tests.unit.ops.scripted_logs import ScriptedLogs, completed_group


@dataclass
class Record:
    value: bytes | None
    topic: str = "topic"
    partition: int = 1
    offset: int = 7
    timestamp: int = 1_700_000_000_123
    key: bytes = GROUP.encode()
    headers: tuple[tuple[str, bytes], ...] = field(default=(("ce_id", b"x:1"),))


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(8900, "CNY", "¥89.00"), (3200, "JPY", "JP¥3,200"), (-5, "USD", "-$0.05"), (123456, "SEK", "1,234.56 SEK")],
)
def test_amounts_are_formatted_for_people(minor: int, currency: str, text: str) -> None:
    assert amount(minor, currency) == text


@pytest.mark.parametrize("event", [GroupEvent, PaymentEvent])
def test_every_event_has_a_text(event: type[GroupEvent] | type[PaymentEvent]) -> None:
    texts = describe.GROUP if event is GroupEvent else describe.PAYMENT
    kinds = [one.name for one in event.DESCRIPTOR.oneofs_by_name["body"].fields]
    assert sorted(texts) == sorted(kinds)
    for kind in kinds:
        made = event()
        getattr(made, kind).SetInParent()
        assert describe.event_line(made)
        assert isinstance(describe.orders_of(made), tuple)


def test_an_unknown_event_is_described_as_such() -> None:
    assert "unknown type" in describe.event_line(GroupEvent())


def test_the_decisions_of_a_whole_group_can_be_described() -> None:
    logs = completed_group()
    lines = [line(GROUP_LOG, Record(one.value)) for one in logs.groups]
    assert "COMPLETED with 3 members" in "\n".join(lines)
    assert "a of ann, 2 pieces, hold of ¥178.00" in lines[0]
    assert "settlement of ¥156.00 requested" in "\n".join(lines)


def test_orders_of_an_event_are_found() -> None:
    logs = completed_group()
    found = [
        event.WhichOneof("body")
        for one in logs.payments
        for event in PaymentDecision.FromString(one.value).events
        if "c" in describe.orders_of(event)
    ]
    assert found == ["hold_requested", "hold_authorised", "void_requested", "voided", "payment_released"]


def test_copies_in_an_inbox_are_decoded_too() -> None:
    logs = completed_group()
    first = Record(logs.inbox[0].value)
    assert "opened by ann" in line(PAYMENT_INBOX, first)
    shown = as_object(PAYMENT_INBOX, first)
    assert shown["value"]["group_decision"]["version"] == "1"
    assert shown["headers"] == {"ce_id": "x:1"}


def test_undecodable_bytes_are_shown_with_their_size() -> None:
    record = Record(b"\xff\xff")
    assert "2 bytes that can't be decoded" in line(ORDERS, record)
    assert as_object(ORDERS, record)["value"] == "ffff"


def test_a_cancellation_request_is_described() -> None:
    logs = ScriptedLogs()
    logs.cancel("c", "cid")
    assert describe.fact_line(OrderFact.FromString(logs.facts[0].value)) == "cid: c requests cancellation"
