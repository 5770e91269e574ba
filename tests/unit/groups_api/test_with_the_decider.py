"""Goal: GroupService shows and returns the decisions of the real decider.

Method: the broker of these tests passes each inbox record to the domain with the kernel's `decide`.
"""

from __future__ import annotations

from typing import Any

import pytest
from groupbuy.groups.v1.groups_pb2 import (
    GROUP_STATE_CANCELLED,
    MEMBER_STATE_CONFIRMED,
    MEMBER_STATE_RESERVED,
    CancelGroupRequest,
    GetGroupRequest,
    Group,
    WatchGroupRequest,
)
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from eventlog.core.aggregate import Aggregate, decide
from eventlog.views.change_notifier import ChangeNotifier
from services.groups.api.groups import GroupServicer
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State
from services.groups.processors.open_groups import OpenGroup
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP, campaign, placed
from tests.scenarios.inputs import order_fact, payments_decided
from tests.scenarios.payment_events import hold_authorised, payment_released
from tests.unit.groups_api.world import TIME_MS, Broker, upcoming

NAME = f"groups/{GROUP}"
REQUEST = "5b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11"


class Decider:
    """One group, decided by the real domain."""

    def __init__(self) -> None:
        self.notifier = ChangeNotifier()
        self._domain: Any = GroupDomain()
        self._aggregate: Aggregate[State] = Aggregate(GROUP, self._domain.initial(GROUP))
        self._offset = 0

    def get(self, key: str) -> Aggregate[State] | None:
        return self._aggregate if key == GROUP and self._aggregate.version else None

    def nearest(
        self, campaign: str, after: tuple[int, int, str] | None, limit: int, partitions: object = None, /
    ) -> list[OpenGroup]:
        return []

    def take(self, topic: str, key: str, value: bytes) -> None:
        self._offset += 1
        if decide(self._domain, self._aggregate, value, self._offset, TIME_MS + self._offset):
            self.notifier.notify(key)

    def decide(self, record: GroupInput) -> None:
        self.take("", GROUP, record.SerializeToString())

    def place(self, order: str, *, opens: bool = False) -> None:
        fact = placed(
            order,
            group=GROUP,
            customer=f"customer-{order}",
            opens_group=opens,
            max_unit_price_minor=8900,
        )
        beside = campaign(name="campaigns/mug", revision=1, rules_version=1) if opens else None
        self.decide(order_fact(fact, beside))

    def pay(self, *events: PaymentEvent) -> None:
        self.decide(payments_decided(GROUP, *events))


@pytest.fixture
def decider() -> Decider:
    made = Decider()
    made.place("a", opens=True)
    made.place("b")
    made.pay(hold_authorised("a", 8900))
    return made


def member_states(group: Group) -> list[tuple[str, int]]:
    return [(member.customer, member.state) for member in group.members]


async def test_a_group_is_shown_as_decided(decider: Decider) -> None:
    groups = GroupServicer(decider, Broker())
    group = await groups.GetGroup(GetGroupRequest(name=NAME), call())
    assert member_states(group) == [("customer-a", MEMBER_STATE_CONFIRMED), ("customer-b", MEMBER_STATE_RESERVED)]
    assert (group.version, group.seats_left, group.unit_price_minor, group.next_tier_members) == (3, 8, 8900, 2)
    assert group.leader_order == f"{NAME}/orders/a"


async def test_a_watch_of_a_cancelled_group_ends_when_all_funds_are_returned(decider: Decider) -> None:
    broker = Broker()
    broker.reacts = decider.take
    groups = GroupServicer(decider, broker)
    watching = groups.WatchGroup(WatchGroupRequest(name=NAME, from_version=3), call(None))
    request = CancelGroupRequest(name=NAME, reason="sold out", request_id=REQUEST)
    cancelled = await groups.CancelGroup(request, call())
    assert (cancelled.state, cancelled.settled) == (GROUP_STATE_CANCELLED, False)
    assert await upcoming(watching) == cancelled
    decider.pay(*(payment_released(order) for order in "ab"))
    assert (await upcoming(watching)).settled
    with pytest.raises(StopAsyncIteration):
        await upcoming(watching)


async def test_a_second_cancel_changes_nothing(decider: Decider) -> None:
    broker = Broker()
    broker.reacts = decider.take
    groups = GroupServicer(decider, broker)
    request = CancelGroupRequest(name=NAME, reason="sold out", request_id=REQUEST)
    assert await groups.CancelGroup(request, call()) == await groups.CancelGroup(request, call())
