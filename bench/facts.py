"""Inputs of groups as the sequencer would write them: groups that open, fill, complete and settle, side by side.

Deterministic by seed. Must give the decider what a real evening gives it, not an easier mix.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256
from uuid import UUID, uuid5

from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.log.v1.log_pb2 import Source
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced
from groupbuy.payments.v1 import decisions_pb2 as pay

_NAMESPACE = UUID("0f6f6c0e-58a7-4dfc-8a53-1d1f2a4b6c77")
#: Groups that fill at the same time.
SIDE_BY_SIDE = 2_000
PRICE = 8_900


def campaign() -> Campaign:
    """A ladder of three tiers, ten seats."""
    tiers = [Tier(members=2, unit_price_minor=8_900), Tier(members=5, unit_price_minor=7_900)]
    tiers.append(Tier(members=10, unit_price_minor=6_900))
    return Campaign(
        name="campaigns/bench",
        product="mug",
        currency="CNY",
        solo_price_minor=9_900,
        tiers=tiers,
        capacity=10,
        window=Duration(seconds=86_400),
        hold_window=Duration(seconds=3_600),
        rules_version=1,
        revision=1,
    )


def group_inputs(index: int, chance: random.Random, *, settle: bool = True) -> Iterator[tuple[str, bytes]]:
    """(key, value) of all that happens to one group; some repeat. Without `settle` it stays open, one seat short."""
    group = str(uuid5(_NAMESPACE, str(index)))
    size = 10 if settle else 9
    customers = [f"c{index}-{n}" for n in range(size)]
    orders = [str(uuid5(UUID(group), customer)) for customer in customers]
    source = Source(topic="orders.order.v1", partition=0, offset=index)
    for number, (customer, order) in enumerate(zip(customers, orders, strict=True)):
        placed = OrderPlaced(
            campaign="bench",
            opens_group=number == 0,
            quantity=1,
            currency="CNY",
            max_unit_price_minor=PRICE,
            payment_method="card_ok",
            request_id=order,
            request_sha256=sha256(order.encode()).digest(),
        )
        fact = OrderFact(order=order, group=group, customer=customer, placed=placed).SerializeToString()
        record = GroupInput(source=source, order_fact=fact, campaign=campaign() if number == 0 else None)
        yield group, record.SerializeToString()
        if chance.random() < 0.02:
            yield group, record.SerializeToString()
    shuffled = list(orders)
    chance.shuffle(shuffled)
    for version, order in enumerate(shuffled, 1):
        held = pay.HoldAuthorised(
            order=order,
            hold=f"hold_{order[:24]}",
            amount_minor=PRICE,
            currency="CNY",
            attempt=1,
            operation=pay.OPERATION_AUTHORISE,
        )
        yield group, _paid(group, version, pay.PaymentEvent(hold_authorised=held))
    if not settle:
        return
    for version, order in enumerate(shuffled, 1 + len(orders)):
        captured = pay.Captured(order=order, hold=f"hold_{order[:24]}", amount_minor=6_900, currency="CNY")
        yield group, _paid(group, version, pay.PaymentEvent(captured=captured))


def _paid(group: str, version: int, event: pay.PaymentEvent) -> bytes:
    decision = pay.PaymentDecision(
        group=group, version=version, cause=version, time_ms=1, previous_sha256=b"\0" * 32, events=[event]
    )
    source = Source(topic="payments.payment.v1", partition=0, offset=version)
    return GroupInput(source=source, payment_decision=decision.SerializeToString()).SerializeToString()


def inputs(count: int, *, seed: int = 1, settle: bool = True) -> Iterator[tuple[str, bytes]]:
    """`count` inputs of many groups, interleaved."""
    chance = random.Random(seed)
    live: list[Iterator[tuple[str, bytes]]] = []
    opened = 0
    while count > 0:
        while len(live) < SIDE_BY_SIDE:
            live.append(group_inputs(opened, chance, settle=settle))
            opened += 1
        at = chance.randrange(len(live))
        found = next(live[at], None)
        if found is None:
            live[at] = live[-1]
            live.pop()
            continue
        yield found
        count -= 1
