"""A group's view says whether the merchant filled it, and whether its stock item is sold out."""

from __future__ import annotations

from groupbuy.groups.v1.groups_pb2 import MEMBER_STATE_WAITLISTED
from groupbuy.groups.v1.inbox_pb2 import GroupInput, StockAnswer

from services.groups.api.mapping import group_message
from tests.scenarios.groups import HOUR, authorised, campaign, given, joins, opens, tick


def test_the_view_says_whether_the_merchant_filled_the_group_and_whether_the_stock_is_sold_out() -> None:
    world = given(opens("a", campaign(house_fill_members=1)), authorised("a")).when(tick(), at=HOUR)
    assert group_message(world.decided, world.state.frozen).house_filled
    full = given(opens("a", campaign()), joins("b"), authorised("a"), authorised("b")).when(tick(), at=HOUR)
    assert not group_message(full.decided, full.state.frozen).house_filled
    waiting = given(opens("a", campaign(stock="stocks/drop", rules_version=2)))
    assert not group_message(waiting.decided, waiting.state.frozen).sold_out
    answer = GroupInput(stock_answer=StockAnswer(stock="drop", version=1))
    waiting.when(answer)
    assert group_message(waiting.decided, waiting.state.frozen).sold_out


def test_an_order_that_waits_for_its_admission_is_shown_as_waiting() -> None:
    group = given(opens("a", campaign(limit_per_customer=1, rules_version=2)))
    (member,) = group_message(group.decided, group.state.frozen).members
    assert member.state == MEMBER_STATE_WAITLISTED
