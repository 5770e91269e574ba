"""Ways in which other group-buying systems lose money, as far as payments can prevent them. Each test names one."""

from __future__ import annotations

from services.orders.domain.ids import group_id, order_id
from tests.scenarios.payments import (
    REFUND,
    authorised,
    captured,
    declined,
    given,
    refund,
    refunded,
    release,
    reserved,
    settle,
)


def test_order_ids_are_unique() -> None:
    group = group_id("ann", "6ec5a8a1-5f0e-4c8a-9a4e-0a5cf7a1f001")
    requests = [f"{number:08x}-5f0e-4c8a-9a4e-0a5cf7a1f001" for number in range(20_000)]
    assert len({order_id(group, customer, one) for one in requests for customer in ("bob", "cem")}) == 40_000


def test_a_payment_does_not_settle_another_order() -> None:
    scenario = given(reserved("o1"), reserved("o2")).when(authorised(order="o2", hold="h2"))
    scenario.then("o2: HoldAuthorised h2 100")
    # The hold of the other order does not pay for this one either.
    scenario.when(authorised(order="o1", hold="h2", attempt=7))
    assert not [line for line in scenario.events if line.HasField("hold_authorised")]


def test_each_members_refund_goes_to_the_member_and_not_to_the_leader() -> None:
    scenario = given(reserved("o1"), authorised(), reserved("o2"), authorised(order="o2", hold="h2"))
    scenario.when(release("o2")).then("o2: VoidRequested void:1 h2 100")


def test_a_retried_refund_request_has_the_same_id_and_pays_once() -> None:
    scenario = given(reserved(), authorised(), settle(100), captured(amount=100))
    scenario.when(refund("r1", 60)).then("RefundRequested refund:1 h1 60 r1")
    scenario.when(refund("r1", 60)).then_nothing()
    scenario.when(refunded(60)).then("Refunded h1 60 r1")
    scenario.when(refund("r1", 60)).then_nothing()


def test_a_refund_that_fails_does_not_strand_the_later_ones() -> None:
    scenario = given(reserved(), authorised(), settle(100), captured(amount=100), refund("r1", 60))
    scenario.when(declined(REFUND)).when(refund("r2", 40)).then("RefundRequested refund:2 h1 40 r2")


def test_a_redelivered_capture_deducts_once() -> None:
    scenario = given(reserved(), authorised(), settle(), captured())
    for _ in range(10):
        scenario.when(captured()).then_nothing()
