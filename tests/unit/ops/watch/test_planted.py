"""Watch finds each of these wrong entries in a copied log. Method: the log of a simulated evening, with one record
changed, lost, repeated or moved, as a defect or an attacker would; later records are left as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import OPERATION_SALE, PaymentDecision

from ops.audit.findings import Invariant
from ops.watch.folding.incremental import IncrementalAudit
from ops.watch.stuck import overdue
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG
from tests.unit.ops.scripted_logs import Line
from tests.unit.ops.simulated_system import SimulatedSystem
from tests.unit.ops.watch.folding import fold, open_audit, timeline

Topics = dict[str, list[Line]]
DAY_MS = 86_400_000

#: Kinds of messages by topic.
_MESSAGES: dict[str, Any] = {GROUP_LOG.name: GroupDecision, PAYMENT_LOG.name: PaymentDecision, ORDERS.name: OrderFact}


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Topics:
    system = SimulatedSystem(150, 11, tmp_path_factory.mktemp("books"))
    system.run()
    return system.topics


@pytest.fixture
def topics(evening: Topics) -> Topics:
    """A copy."""
    return {topic: [replace(line) for line in lines] for topic, lines in evening.items()}


def watched(topics: Topics, directory: Path) -> IncrementalAudit:
    audit = open_audit(directory, partitions=1)
    fold(audit, timeline(topics))
    audit.end_round()
    return audit


def line_with(topics: Topics, topic: str, body: str, where: Callable[[Any], bool] = lambda _: True) -> tuple[int, int]:
    """Index of the first record with such an event, and the event's index in it."""
    for at, line in enumerate(topics[topic]):
        for number, event in enumerate(_MESSAGES[topic].FromString(line.value).events):
            if event.WhichOneof("body") == body and where(getattr(event, body)):
                return at, number
    raise AssertionError(f"the evening has no such {body}")


def change(topics: Topics, topic: str, body: str, edit: Callable[[Any], None], where: Any = lambda _: True) -> None:
    """Changes an event, and links the later decisions of its group again: no digest gives the change away."""
    at, number = line_with(topics, topic, body, where)
    decision = _MESSAGES[topic].FromString(topics[topic][at].value)
    edit(getattr(decision.events[number], body))
    replace_decision(topics, topic, at, decision)


def replace_decision(topics: Topics, topic: str, at: int, decision: Any) -> None:
    """Replaces a decision and its duplicates, and links the later ones."""
    values = {topics[topic][at].value: decision.SerializeToString()}
    latest = {decision.version: values[topics[topic][at].value]}
    for line in topics[topic]:
        other = _MESSAGES[topic].FromString(line.value)
        if other.group != decision.group or other.version < decision.version:
            continue
        if line.value in values:
            line.value = values[line.value]
            continue
        before = line.value
        other.previous_sha256 = sha256(latest[other.version - 1]).digest()
        line.value = values[before] = latest[other.version] = other.SerializeToString()


def put(name: str, value: Any) -> Callable[[Any], None]:
    return lambda event: setattr(event, name, value)


def drop_event(topics: Topics, topic: str, body: str, where: Any = lambda _: True) -> None:
    at, number = line_with(topics, topic, body, where)
    decision = _MESSAGES[topic].FromString(topics[topic][at].value)
    del decision.events[number]
    replace_decision(topics, topic, at, decision)


def add_event(topics: Topics, topic: str, body: str, edit: Callable[[Any], None] = lambda _: None) -> None:
    """Repeats an event in its decision, changed."""
    at, number = line_with(topics, topic, body)
    decision = _MESSAGES[topic].FromString(topics[topic][at].value)
    again = decision.events.add()
    again.CopyFrom(decision.events[number])
    edit(getattr(again, body))
    replace_decision(topics, topic, at, decision)


def capture_too_much(topics: Topics) -> None:
    def edit(event: Any) -> None:
        event.amount_minor += 1
        event.released_minor -= 1

    change(topics, PAYMENT_LOG.name, "captured", edit, lambda one: one.released_minor > 0)


def lose_member(topics: Topics) -> None:
    change(topics, GROUP_LOG.name, "completed", lambda one: one.orders.pop(), lambda one: len(one.orders) > 1)


def break_digest(topics: Topics) -> None:
    line = next(one for one in topics[PAYMENT_LOG.name] if PaymentDecision.FromString(one.value).version > 1)
    decision = PaymentDecision.FromString(line.value)
    decision.previous_sha256 = bytes(32)
    before, line.value = line.value, decision.SerializeToString()
    topics[PAYMENT_LOG.name] = [one for one in topics[PAYMENT_LOG.name] if one.value != before]


def lose_decision(topics: Topics) -> None:
    log = topics[GROUP_LOG.name]
    lost = next(one.value for one in log if GroupDecision.FromString(one.value).version == 2)
    topics[GROUP_LOG.name] = [one for one in log if one.value != lost]


def second_version(topics: Topics) -> None:
    log = topics[GROUP_LOG.name]
    decision = GroupDecision.FromString(log[-1].value)
    decision.time_ms += 1
    log.append(Line(len(log), decision.SerializeToString(), log[-1].key, timestamp=log[-1].timestamp + 1))


def refund_too_much(topics: Topics) -> None:
    change(topics, PAYMENT_LOG.name, "refunded", put("amount_minor", 10**9))


def order_without_group(topics: Topics) -> None:
    """A member whose order was never placed."""
    at, _ = line_with(topics, GROUP_LOG.name, "member_confirmed")
    decision = GroupDecision.FromString(topics[GROUP_LOG.name][at].value)
    order = next(one.member_confirmed.order for one in decision.events if one.WhichOneof("body") == "member_confirmed")
    facts = topics[ORDERS.name]
    topics[ORDERS.name] = [one for one in facts if OrderFact.FromString(one.value).order != order]


def order_never_decided(topics: Topics) -> None:
    facts = topics[ORDERS.name]
    fact = OrderFact.FromString(facts[0].value)
    fact.order = "0" * len(fact.order)
    facts.append(Line(len(facts), fact.SerializeToString(), fact.group.encode(), timestamp=facts[-1].timestamp))


def undecodable(topics: Topics) -> None:
    log = topics[PAYMENT_INBOX.name]
    log.append(Line(len(log), b"\xff\xff", log[0].key, timestamp=log[-1].timestamp))


def wrong_key(topics: Topics) -> None:
    topics[PAYMENT_LOG.name][0].key = b"another"


def lose_settlement(topics: Topics) -> None:
    """The end of the log is lost: the last decision about captured money."""
    at, _ = line_with(topics, GROUP_LOG.name, "settled")
    lost = topics[GROUP_LOG.name][at].value
    group = GroupDecision.FromString(lost).group
    version = GroupDecision.FromString(lost).version
    topics[GROUP_LOG.name] = [
        one
        for one in topics[GROUP_LOG.name]
        if (made := GroupDecision.FromString(one.value)).group != group or made.version < version
    ]


def on(topic: str, body: str, edit: Callable[[Any], None], where: Any = lambda _: True) -> Callable[[Topics], None]:
    return lambda topics: change(topics, topic, body, edit, where)


def tampered_request(topics: Topics) -> None:
    for line in topics[ORDERS.name]:
        fact = OrderFact.FromString(line.value)
        if fact.WhichOneof("body") == "placed":
            fact.placed.request_sha256 = bytes(32)
            before = line.value
            for one in topics[ORDERS.name]:
                one.value = fact.SerializeToString() if one.value == before else one.value
            return


GROUPS, PAYMENTS = GROUP_LOG.name, PAYMENT_LOG.name
NOT_SALE = lambda one: one.operation != OPERATION_SALE  # noqa: E731
#: Name -> the wrong entry, and the invariant that it violates. None: nothing is violated, but work stays open.
PLANTED: dict[str, tuple[Callable[[Topics], None], Invariant | None]] = {
    "a capture of one cent too much": (capture_too_much, Invariant.RIGHT_AMOUNT),
    "a capture that does not release the rest": (
        on(PAYMENTS, "captured", put("released_minor", 0), lambda one: one.released_minor > 0),
        Invariant.HELD_IS_ACCOUNTED_FOR,
    ),
    "a second capture": (lambda topics: add_event(topics, PAYMENTS, "captured"), Invariant.ONE_CAPTURE),
    "a capture of an unknown hold": (on(PAYMENTS, "captured", put("hold", "h-x")), Invariant.HELD_IS_ACCOUNTED_FOR),
    "a hold of another amount": (on(PAYMENTS, "hold_authorised", put("amount_minor", 1), NOT_SALE), None),
    "a hold in another currency": (
        on(PAYMENTS, "hold_authorised", put("currency", "XXX"), NOT_SALE),
        Invariant.RIGHT_AMOUNT,
    ),
    "a void that releases too little": (
        on(PAYMENTS, "voided", put("amount_minor", 1)),
        Invariant.HELD_IS_ACCOUNTED_FOR,
    ),
    "a refund of more than was captured": (refund_too_much, Invariant.REFUNDS_WITHIN_CAPTURES),
    "a lost member": (lose_member, Invariant.ONE_END_OF_GROUP),
    "the wrong tier": (on(GROUPS, "completed", put("unit_price_minor", 1)), Invariant.RIGHT_AMOUNT),
    "a settlement at another amount": (on(GROUPS, "member_settled", put("amount_minor", 1)), Invariant.RIGHT_AMOUNT),
    "a charge to another hold": (on(GROUPS, "settlement_requested", put("hold", "h-x")), Invariant.RIGHT_AMOUNT),
    "a seat for another customer": (
        on(GROUPS, "seat_reserved", put("customer", "mallory")),
        Invariant.SAME_REQUEST_SAME_RESULT,
    ),
    "a seat at another price": (on(GROUPS, "seat_reserved", put("hold_amount_minor", 1)), Invariant.RIGHT_AMOUNT),
    "an expiry with another number of members": (
        on(GROUPS, "expired", put("members", 99)),
        Invariant.ONE_END_OF_GROUP,
    ),
    "a member confirmed twice": (
        lambda topics: add_event(topics, GROUPS, "member_confirmed"),
        Invariant.ONE_END_OF_ORDER,
    ),
    "a release that was never requested": (
        lambda topics: drop_event(topics, GROUPS, "release_requested"),
        Invariant.ONE_END_OF_ORDER,
    ),
    "a broken digest": (break_digest, Invariant.CHAIN),
    "a lost decision": (lose_decision, Invariant.VERSIONS),
    "two decisions of one version": (second_version, Invariant.VERSIONS),
    "a decision under another key": (wrong_key, Invariant.VERSIONS),
    "a record that can't be decoded": (undecodable, Invariant.VERSIONS),
    "a member whose order was never placed": (order_without_group, Invariant.ONE_END_OF_ORDER),
    "an order with another request": (tampered_request, Invariant.SAME_REQUEST_SAME_RESULT),
    "an order that is never decided": (order_never_decided, None),
    "a settlement that never came": (lose_settlement, None),
    "a capture that never came": (lambda topics: drop_event(topics, PAYMENTS, "captured"), None),
}


def test_the_evening_itself_is_clean(topics: Topics, tmp_path: Path) -> None:
    audit = watched(topics, tmp_path)
    assert audit.totals.violations == {}
    assert list(audit.totals.unbalanced()) == []
    assert list(overdue(audit.open_items(), 2 * 10**12, 60)) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_wrong_entry_is_found(name: str, topics: Topics, tmp_path: Path) -> None:
    plant, invariant = PLANTED[name]
    plant(topics)
    audit = watched(topics, tmp_path)
    if invariant is None:
        last_ms = max(line.timestamp for lines in topics.values() for line in lines)
        stuck = list(overdue(audit.open_items(), last_ms + DAY_MS, 60))
        assert stuck or audit.totals.violations
    else:
        assert audit.totals.violations.get(invariant, 0) > 0
        assert str(int(invariant)) in audit.totals.first[int(invariant)]
