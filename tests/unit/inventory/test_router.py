"""Group decisions become inputs of stock items and allowances, and their answers become inputs of groups."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.inventory.v1 import decisions_pb2 as pb
from groupbuy.inventory.v1.inbox_pb2 import AllowanceInput, StockInput
from groupbuy.inventory.v1.offers_pb2 import StockOffer

from services.groups.processors.router import AnswerRoutes
from services.inventory.processors.offers import OfferRoutes
from services.inventory.processors.router import InventoryRoutes
from shared_kernel import topics


def routed(mappers: Any, topic: str, key: str, decision: Message) -> list[tuple[str, str, bytes]]:
    record = SimpleNamespace(key=key.encode(), value=decision.SerializeToString(), offset=12)
    return [tuple(one) for one in mappers.for_partition(topic, 3).routes(record)]


def group_routes(*events: g.GroupEvent, key: str = "g1") -> list[tuple[str, str, bytes]]:
    decision = g.GroupDecision(group="g1", version=4, cause=9, events=events)
    return routed(InventoryRoutes(), topics.GROUP_LOG.name, key, decision)


def test_a_decision_becomes_one_input_of_its_stock_item_with_position_version_and_cause() -> None:
    ((topic, key, value),) = group_routes(
        g.GroupEvent(units_sold=g.UnitsSold(stock="drop", units=2)),
        g.GroupEvent(units_returned=g.UnitsReturned(stock="drop", units=3, closed=True)),
        g.GroupEvent(units_requested=g.UnitsRequested(stock="drop", at_least=1, at_most=7, queue=True)),
    )
    made = StockInput.FromString(value)
    assert (topic, key) == (topics.STOCK_INBOX.name, "drop")
    assert (made.source.topic, made.source.partition, made.source.offset) == (topics.GROUP_LOG.name, 3, 12)
    found = made.group_units
    assert (found.group, found.version, found.cause) == ("g1", 4, 9)
    assert (found.sold, found.returned, found.closed) == (2, 3, True)
    assert (found.at_least, found.at_most, found.queue) == (1, 7, True)


def test_each_customer_gets_one_input_and_no_payment_method_leaves_the_group() -> None:
    asked: dict[str, Any] = {"campaign": "mug", "limit": 2, "payment_method": "card_ok"}
    found = group_routes(
        g.GroupEvent(admission_requested=g.AdmissionRequested(order="a", customer="ann", quantity=1, **asked)),
        g.GroupEvent(admission_requested=g.AdmissionRequested(order="b", customer="bob", quantity=2, **asked)),
        g.GroupEvent(allowance_returned=g.AllowanceReturned(order="c", customer="ann", campaign="mug")),
    )
    assert [(topic, key) for topic, key, _ in found] == [
        (topics.ALLOWANCE_INBOX.name, "mug/ann"),
        (topics.ALLOWANCE_INBOX.name, "mug/bob"),
    ]
    ann = AllowanceInput.FromString(found[0][2]).group_allowance
    assert ([one.order for one in ann.requested], list(ann.returned), ann.limit) == (["a"], ["c"], 2)
    assert not any(b"card_ok" in value for *_, value in found)


def test_a_decision_without_pieces_and_limits_is_not_routed() -> None:
    assert not group_routes(g.GroupEvent(member_confirmed=g.MemberConfirmed(order="a")))


def test_an_unknown_event_and_the_key_of_another_group_are_not_skipped() -> None:
    with pytest.raises(DecodeError):
        group_routes(g.GroupEvent())
    with pytest.raises(DecodeError):
        group_routes(key="g2")


def test_answers_of_a_stock_item_go_to_the_groups_that_they_name() -> None:
    decision = pb.StockDecision(
        stock="drop",
        version=7,
        events=[
            pb.StockEvent(heard=pb.GroupHeard(group="g1")),
            pb.StockEvent(leased=pb.UnitsLeased(group="g1", units=4)),
            pb.StockEvent(out_of_stock=pb.OutOfStock(group="g2", at_least=5, free=2, queued=True)),
            pb.StockEvent(out_of_stock=pb.OutOfStock(group="g1", at_least=1)),
        ],
    )
    found = routed(AnswerRoutes(), topics.STOCK_LOG.name, "drop", decision)
    assert [(topic, key) for topic, key, _ in found] == [(topics.GROUP_INBOX.name, one) for one in ("g1", "g2")]
    first, second = (GroupInput.FromString(value).stock_answer for *_, value in found)
    # The first answer counts: a later one of the same decision follows an error in the rules.
    assert (first.stock, first.version, first.granted) == ("drop", 7, 4)
    assert (second.granted, second.free, second.queued) == (0, 2, True)


def test_answers_of_an_allowance_name_their_orders() -> None:
    decision = pb.AllowanceDecision(
        allowance="mug/ann",
        version=2,
        events=[
            pb.AllowanceEvent(admitted=pb.OrderAdmitted(order="a", group="g1", quantity=1)),
            pb.AllowanceEvent(denied=pb.OrderDenied(order="b", group="g2", quantity=1)),
            pb.AllowanceEvent(returned=pb.OrderReturned(order="c")),
        ],
    )
    found = routed(AnswerRoutes(), topics.ALLOWANCE_LOG.name, "mug/ann", decision)
    answers = [(key, GroupInput.FromString(value).admission_answer) for _, key, value in found]
    assert [(key, one.order, one.admitted) for key, one in answers] == [("g1", "a", True), ("g2", "b", False)]


def test_a_decision_that_changes_the_offer_becomes_one_record_of_the_topic_of_offers() -> None:
    changed = pb.OfferChanged(state=pb.OFFER_STATE_SOLD_OUT, free=0, total=9)
    events = [pb.StockEvent(heard=pb.GroupHeard(group="g1")), pb.StockEvent(offer_changed=changed)]
    decision = pb.StockDecision(stock="drop", version=7, cause=12, time_ms=5, events=events)
    ((topic, key, value),) = routed(OfferRoutes(), topics.STOCK_LOG.name, "drop", decision)
    assert (topic, key) == (topics.OFFERS.name, "drop")
    sold_out = StockOffer(stock="drop", state=pb.OFFER_STATE_SOLD_OUT, total=9, version=7, time_ms=5)
    assert StockOffer.FromString(value) == sold_out


def test_other_decisions_are_no_offers_and_unknown_ones_are_not_skipped() -> None:
    heard = pb.StockDecision(stock="drop", events=[pb.StockEvent(heard=pb.GroupHeard(group="g1"))])
    assert not routed(OfferRoutes(), topics.STOCK_LOG.name, "drop", heard)
    with pytest.raises(DecodeError):
        routed(OfferRoutes(), topics.STOCK_LOG.name, "drop", pb.StockDecision(stock="drop", events=[pb.StockEvent()]))
    with pytest.raises(DecodeError):
        routed(OfferRoutes(), topics.STOCK_LOG.name, "other", heard)
