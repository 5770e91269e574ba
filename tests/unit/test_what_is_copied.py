"""The sequencers copy every event that their decider uses, every event unknown to them, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from chassis.lifecycle import backoff
from eventlog.core.errors import BrokerUnavailable
from eventlog.core.inbox_mapper import DependencyUnavailable, RecordMapper
from eventlog.records.dead_letters import Undecodable
from eventlog.records.wire import BytesField
from services.groups.domain import command
from services.groups.processors.sequencer import CAMPAIGN_HEADER, GroupInboxMapper
from services.payments.domain.decide import decode
from services.payments.domain.inputs.on_group_event import on_group_decision
from services.payments.domain.rules_version import CURRENT
from services.payments.domain.state.model import GroupPayments
from services.payments.processors.sequencer import PaymentInboxMapper

ORDERS, DECISIONS = "orders", "decisions"
GROUP = "g1"
#: Field number of the events in a decision, and of an unknown kind of event.
EVENTS, UNKNOWN = 6, 99
#: An event of a kind that a later build may know.
LATER = BytesField(EVENTS).of(BytesField(UNKNOWN).of(b""))

GROUP_KINDS = [field.name for field in GroupEvent.DESCRIPTOR.oneofs_by_name["body"].fields]
PAYMENT_KINDS = [field.name for field in PaymentEvent.DESCRIPTOR.oneofs_by_name["body"].fields]


def record(value: bytes, key: bytes = GROUP.encode(), campaign: str = "") -> Any:
    headers = [(CAMPAIGN_HEADER, campaign.encode())] if campaign else []
    return SimpleNamespace(offset=7, key=key, value=value, headers=headers)


def payments() -> RecordMapper:
    return PaymentInboxMapper().for_partition(DECISIONS, 3)


def groups(topic: str = DECISIONS, known: Mapping[str, Campaign] | None = None) -> RecordMapper:
    """`known` is what the campaigns' topic holds; nothing of it is known before it is read."""
    campaigns: dict[str, Campaign] = {}

    async def get_latest(key: str) -> Campaign | None:
        campaigns.update(known or {})
        return campaigns.get(key)

    return GroupInboxMapper(ORDERS, campaigns.get, get_latest).for_partition(topic, 3)


def group_decision(*kinds: str) -> bytes:
    decision = GroupDecision(group=GROUP, version=1)
    for kind in kinds:
        getattr(decision.events.add(), kind).SetInParent()
    return decision.SerializeToString()


def payment_decision(*kinds: str) -> bytes:
    decision = PaymentDecision(group=GROUP, version=1)
    for kind in kinds:
        getattr(decision.events.add(), kind).SetInParent()
    return decision.SerializeToString()


def test_the_numbers_of_this_test_are_those_of_the_messages() -> None:
    assert GroupDecision.EVENTS_FIELD_NUMBER == PaymentDecision.EVENTS_FIELD_NUMBER == EVENTS
    for message in (GroupEvent, PaymentEvent):
        assert UNKNOWN not in message.DESCRIPTOR.fields_by_number


@pytest.mark.parametrize("kind", GROUP_KINDS)
def test_payments_gets_copies_of_the_events_that_it_uses_and_of_no_other(kind: str) -> None:
    value = group_decision(kind)
    copied = payments().map_record(record(value))
    if copied is None:
        whole = decode(PaymentInput(group_decision=value).SerializeToString()).body
        assert isinstance(whole, GroupDecision)
        assert list(on_group_decision(GroupPayments(GROUP), whole, 0)) == []
        return
    assert kind in {"seat_reserved", "settlement_requested", "release_requested"}
    message = PaymentInput.FromString(copied)
    assert message.group_decision == value
    assert (message.source.topic, message.source.partition, message.source.offset) == (DECISIONS, 3, 7)
    assert message.rules_version == CURRENT


@pytest.mark.parametrize("kind", PAYMENT_KINDS)
def test_a_group_gets_copies_of_the_events_that_it_uses_and_of_no_other(kind: str) -> None:
    value = payment_decision(kind)
    copied = groups().map_record(record(value))
    if copied is None:
        assert command.decode(GroupInput(payment_decision=value).SerializeToString()).items == []
        return
    assert kind in command.MONEY
    message = GroupInput.FromString(copied)
    assert message.payment_decision == value
    assert (message.source.topic, message.source.partition, message.source.offset) == (DECISIONS, 3, 7)


def test_a_decision_is_copied_whole_if_the_decider_uses_one_of_its_events() -> None:
    mixed = group_decision("completed", "settlement_requested")
    assert PaymentInput.FromString(payments().map_record(record(mixed)) or b"").group_decision == mixed
    mixed = payment_decision("hold_requested", "captured")
    assert GroupInput.FromString(groups().map_record(record(mixed)) or b"").payment_decision == mixed


def test_an_event_that_this_build_does_not_know_is_copied_so_that_the_decider_stops_at_it() -> None:
    value = group_decision("seat_refused") + LATER
    assert PaymentInput.FromString(payments().map_record(record(value)) or b"").group_decision == value
    value = payment_decision("hold_requested") + LATER
    assert GroupInput.FromString(groups().map_record(record(value)) or b"").payment_decision == value


@pytest.mark.parametrize("copying", [payments(), groups()], ids=["payments", "groups"])
@pytest.mark.parametrize("value", [b"\xff\xff", group_decision("seat_refused")], ids=["no message", "another's key"])
def test_a_value_that_is_no_decision_of_the_keys_group_is_undecodable_even_if_it_would_not_be_copied(
    copying: RecordMapper, value: bytes
) -> None:
    with pytest.raises(Undecodable):
        copying.map_record(record(value, key=b"another"))


def test_every_order_fact_is_copied_and_one_of_an_unknown_kind_is_undecodable() -> None:
    fact = OrderFact(group=GROUP, order="o1")
    with pytest.raises(Undecodable):
        groups(ORDERS).map_record(record(fact.SerializeToString()))
    for kind in [field.name for field in OrderFact.DESCRIPTOR.oneofs_by_name["body"].fields]:
        fact.ClearField("placed")
        getattr(fact, kind).SetInParent()
        value = fact.SerializeToString()
        assert GroupInput.FromString(groups(ORDERS).map_record(record(value)) or b"").order_fact == value


@pytest.mark.parametrize("exists", [True, False])
async def test_an_order_that_opens_a_group_is_copied_with_its_campaign_once_campaigns_are_read(exists: bool) -> None:
    offer = Campaign(name="campaigns/mug", capacity=3)
    copying = groups(ORDERS, {"mug": offer} if exists else {})
    value = OrderFact(group=GROUP, order="o1", placed=OrderPlaced(campaign="mug", opens_group=True)).SerializeToString()
    opening = record(value, campaign="mug")
    with pytest.raises(DependencyUnavailable) as missing:
        copying.map_record(opening)
    await copying.load_dependency(missing.value)
    message = GroupInput.FromString(copying.map_record(opening) or b"")
    assert message.order_fact == value
    assert message.HasField("campaign") is exists
    if exists:
        assert message.campaign == offer


async def test_a_batch_with_many_unknown_campaigns_reads_their_topic_to_its_end_once() -> None:
    loads: list[str] = []

    async def get_latest(key: str) -> Campaign | None:
        loads.append(key)
        return None

    copying = GroupInboxMapper(ORDERS, lambda key: None, get_latest).for_partition(ORDERS, 3)
    for number in range(50):
        placed = OrderPlaced(campaign=f"unknown-{number}", opens_group=True)
        opening = record(
            OrderFact(group=GROUP, order="o1", placed=placed).SerializeToString(), campaign=f"unknown-{number}"
        )
        try:
            copying.map_record(opening)
        except DependencyUnavailable as missing:
            await copying.load_dependency(missing)
        assert not GroupInput.FromString(copying.map_record(opening) or b"").HasField("campaign")
    assert loads == ["unknown-0"]


async def test_a_look_up_of_a_campaign_waits_for_a_broker_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backoff, "MAX_WAIT_S", 0.0)
    offer = Campaign(name="campaigns/mug")
    campaigns: dict[str, Campaign] = {}
    refusals = [BrokerUnavailable("away"), BrokerUnavailable("away")]

    async def get_latest(key: str) -> Campaign | None:
        if refusals:
            raise refusals.pop()
        campaigns["mug"] = offer
        return offer

    copying = GroupInboxMapper(ORDERS, campaigns.get, get_latest).for_partition(ORDERS, 3)
    value = OrderFact(group=GROUP, order="o1", placed=OrderPlaced(campaign="mug", opens_group=True)).SerializeToString()
    opening = record(value, campaign="mug")
    with pytest.raises(DependencyUnavailable) as missing:
        copying.map_record(opening)
    await copying.load_dependency(missing.value)
    assert GroupInput.FromString(copying.map_record(opening) or b"").campaign == offer
