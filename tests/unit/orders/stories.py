"""Histories of a group's orders, as the records of three logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from groupbuy.groups.v1 import decisions_pb2 as g

from tests.unit.orders import history as h


class Story(NamedTuple):
    """The records of each topic, in the order of the topic."""

    facts: list[h.Fact]
    decisions: list[h.Decision]
    payments: list[h.Payment]


class Telling:
    """Builder of a story."""

    def __init__(self) -> None:
        self.facts: list[h.Fact] = []
        self.group = h.GroupLog()
        self.purse = h.PurseLog()

    def done(self) -> Story:
        return Story(self.facts, self.group.records, self.purse.records)


def two_settle_and_one_is_refunded() -> Story:
    t = Telling()
    t.facts += [h.placed("a", 1000, opens=True), h.placed("b", 1100), h.placed("a", 1150)]
    t.group.decide(1010, h.opened("a"), h.reserved("a"))
    t.group.decide(1110, h.reserved("b"))
    t.purse.decide(1020, h.action_required("a"))
    t.purse.decide(1040, h.authorised("a"))
    t.purse.decide(1120, h.authorised("b"))
    t.group.decide(1050, h.confirmed("a"))
    t.group.decide(1130, h.confirmed("b"), h.completed("a", "b"))
    t.purse.decide(1200, h.captured("a"))
    t.purse.decide(1210, h.captured("b"))
    t.group.decide(1220, h.settled("a"))
    t.group.decide(1230, h.settled("b"))
    t.purse.decide(1300, h.refunded("b", 5800, "r1"))
    t.purse.decide(1310, h.refunded("b", 10000, "r2"))
    return t.done()


def a_group_expires_short() -> Story:
    t = Telling()
    t.facts += [h.placed("a", opens=True), h.placed("b")]
    t.group.decide(1010, h.opened("a"), h.reserved("a"))
    t.group.decide(1011, h.reserved("b"))
    t.purse.decide(1020, h.authorised("a"))
    t.group.decide(1030, h.confirmed("a"))
    t.group.decide(1040, h.seat_released("b", g.RELEASE_REASON_LAPSED))
    t.group.decide(9000, h.expired(), h.seat_released("a", g.RELEASE_REASON_GROUP_EXPIRED))
    t.purse.decide(9010, h.voided("a"), h.payment_released("a"))
    t.purse.decide(9020, h.payment_released("b"))
    t.group.decide(9030, h.member_released("a"))
    t.group.decide(9040, h.member_released("b"))
    return t.done()


def a_joiner_is_refused_and_another_waits() -> Story:
    t = Telling()
    t.facts += [h.placed("a", opens=True), h.placed("b"), h.placed("c"), h.cancel_requested("b")]
    t.group.decide(1010, h.opened("a"), h.reserved("a"))
    t.group.decide(1020, h.refused("b"))
    t.group.decide(1030, h.waitlisted("c"))
    t.group.decide(1040, h.seat_released("a", g.RELEASE_REASON_DECLINED), h.reserved("c"))
    t.purse.decide(1035, h.hold_declined("a"))
    t.purse.decide(1050, h.authorised("c"))
    t.group.decide(1060, h.confirmed("c"))
    return t.done()


def a_sale_settles_with_its_excess_given_back() -> Story:
    t = Telling()
    t.facts += [h.placed("a", opens=True, solo=True)]
    t.group.decide(1010, h.opened("a", solo=True), h.reserved("a"))
    t.purse.decide(1020, h.authorised("a", sale=True))
    t.group.decide(1030, h.confirmed("a"), h.completed("a"))
    t.purse.decide(1040, h.captured("a"))
    t.purse.decide(1050, h.refunded("a", 2000))
    t.group.decide(1060, h.settled("a"), h.cancel_refused("a"))
    return t.done()


def a_capture_is_declined() -> Story:
    t = Telling()
    t.facts += [h.placed("a", opens=True), h.cancel_requested("a")]
    t.group.decide(1010, h.opened("a"), h.reserved("a"))
    t.purse.decide(1020, h.authorised("a"))
    t.group.decide(1030, h.confirmed("a"), h.completed("a"))
    t.group.decide(1035, h.cancel_refused("a"))
    t.purse.decide(1040, h.capture_declined("a"))
    t.purse.decide(1050, h.voided("a"))
    t.group.decide(1060, h.member_declined("a"))
    return t.done()


def money_comes_for_an_order_that_was_cancelled() -> Story:
    t = Telling()
    t.facts += [h.placed("a", opens=True), h.cancel_requested("a"), h.placed("a", 3000, quantity=5)]
    t.group.decide(1010, h.opened("a"), h.reserved("a"))
    t.group.decide(2010, h.seat_released("a", g.RELEASE_REASON_CANCELLED))
    t.purse.decide(2020, h.authorised("a"), h.authorised("stray", 500))
    t.purse.decide(2030, h.hold_lapsed("a"), h.payment_released("a"))
    t.group.decide(2040, h.member_released("a"))
    return t.done()


STORIES: list[Callable[[], Story]] = [
    two_settle_and_one_is_refunded,
    a_group_expires_short,
    a_joiner_is_refused_and_another_waits,
    a_sale_settles_with_its_excess_given_back,
    a_capture_is_declined,
    money_comes_for_an_order_that_was_cancelled,
]
