"""A history without personal data has the same lines, except for what names a person."""

from __future__ import annotations

from types import SimpleNamespace

from google.protobuf.message import Message
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.links.v1.links_pb2 import Invitation
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced
from groupbuy.payments.v1 import decisions_pb2 as p

from ops.log.history import HISTORY, Entry, lines
from ops.log.rendering.anonymous import PERSONAL_FIELDS, anonymous
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_LOG

GROUP = "5d7c9f3e-0000-4000-8000-000000000001"
ANN, BOB = "ann-4711", "bob-4712"


def entry(topic: str, offset: int, message: Message) -> Entry:
    value = message.SerializeToString()
    return Entry.of(topic, SimpleNamespace(topic=topic, offset=offset, timestamp=offset, value=value, headers=[]))


def entries() -> list[Entry]:
    placed = OrderPlaced(opens_group=True, quantity=1, payment_method="wallet_wechat_o6_bmjrPTlm6")
    opened = g.GroupEvent(opened=g.GroupOpened(leader_order="a" * 36, leader_customer=ANN))
    seat = g.SeatReserved(order="b" * 36, customer=BOB, quantity=1, invitation=Invitation(inviter=ANN))
    asked = p.ActionRequired(order="b" * 36, action_url="https://pay.example/?who=ann-4711")
    return [
        entry(ORDERS.name, 1, OrderFact(order="a" * 36, group=GROUP, customer=ANN, placed=placed)),
        entry(GROUP_LOG.name, 2, g.GroupDecision(group=GROUP, version=1, events=[opened])),
        entry(GROUP_LOG.name, 3, g.GroupDecision(group=GROUP, version=2, events=[g.GroupEvent(seat_reserved=seat)])),
        entry(PAYMENT_LOG.name, 4, p.PaymentDecision(version=1, events=[p.PaymentEvent(action_required=asked)])),
    ]


def test_people_have_numbers_in_the_order_of_the_log() -> None:
    text = "\n".join(map(str, lines(anonymous(entries()))))
    assert "customer 1: aaaaaaaa opens the group" in text
    assert "pays with wechat" in text
    assert "opened by customer 1" in text
    assert "of customer 2, invited by customer 1" in text
    assert "must confirm at the provider's page" in text
    for personal in (ANN, BOB, "o6_bmjrPTlm6", "pay.example"):
        assert personal not in text


def test_the_original_keeps_its_people() -> None:
    known = entries()
    before = list(map(str, lines(known)))
    after = list(map(str, lines(anonymous(known))))
    assert list(map(str, lines(known))) == before
    assert len(after) == len(before)
    assert any(ANN in line for line in before)


def test_each_personal_field_is_a_field_of_the_log() -> None:
    found: set[str] = set()

    def visit(descriptor: object, seen: set[str]) -> None:
        if descriptor.full_name in seen:  # type: ignore[attr-defined]
            return
        seen.add(descriptor.full_name)  # type: ignore[attr-defined]
        for field in descriptor.fields:  # type: ignore[attr-defined]
            found.add(field.name)
            if field.message_type is not None:
                visit(field.message_type, seen)

    for spec in HISTORY:
        assert spec.message is not None
        visit(spec.message.DESCRIPTOR, set())
    assert found >= PERSONAL_FIELDS
    # A new field that names a customer or an inviter has to be replaced too.
    named = {name for name in found if "customer" in name or "inviter" in name}
    assert {name for name in named if not name.endswith("per_customer")} <= PERSONAL_FIELDS
