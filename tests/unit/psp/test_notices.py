"""Notifications about the provider's own life, for each wire, and the order and number of their copies."""

from __future__ import annotations

from typing import Any

import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.fault_injection import FaultInjector
from simulators.psp.notifications.notifier import own_event
from simulators.psp.stripe import events
from simulators.psp.wechat import objects as wechat_objects
from tests.unit.psp.account_books import HOLD, Books, authorise, capture, refund


@pytest.fixture
def stripe(books: Books) -> Books:
    """A captured payment of Stripe's, whose changes are collected."""
    books.listen()
    request = authorise(method="stripe/pm_ok")
    request.metadata.update({"key": request.key, "order": "a", "group": "g", "environment": "green"})
    books.apply(request)
    books.apply(capture(80))
    return books


def last(books: Books) -> tuple[str, dict[str, Any]]:
    """Type and object of Stripe's event about the last change."""
    event = events.event(books.changes[-1])
    assert event is not None
    return event["type"], event["data"]["object"]


def test_an_event_of_a_later_change_has_the_metadata_of_the_payment(stripe: Books) -> None:
    kind, intent = last(stripe)
    assert kind == "payment_intent.succeeded"
    assert intent["metadata"]["environment"] == "green"
    assert intent["metadata"]["capture_key"] == "a:capture:1"


def test_events_of_operations_by_hand_lack_our_metadata(stripe: Books) -> None:
    stripe.life.operate_by_hand(pb.OperateByHandRequest(hold=HOLD, kind=pb.EXTERNAL_KIND_REFUND, amount_minor=10))
    kind, made = last(stripe)
    assert (kind, made["metadata"], made["amount"], made["status"]) == ("refund.created", {}, 10, "succeeded")
    assert made["payment_intent"] == "pi_" + HOLD.removeprefix("hold_")


def test_a_capture_by_hand_has_no_capture_key(books: Books) -> None:
    books.listen()
    books.apply(authorise(method="stripe/pm_ok"))
    books.life.operate_by_hand(pb.OperateByHandRequest(hold=HOLD, kind=pb.EXTERNAL_KIND_CAPTURE))
    kind, intent = last(books)
    assert kind == "payment_intent.succeeded"
    assert intent["metadata"] == {"key": "a:authorise:1", "order": "a", "group": "g"}


@pytest.mark.parametrize(
    ("reversed_", "kind", "status"), [(False, "refund.failed", "failed"), (True, "refund.updated", "canceled")]
)
def test_an_undone_refund_keeps_its_id_and_metadata(stripe: Books, reversed_: bool, kind: str, status: str) -> None:
    stripe.apply(refund(30))
    _, made = last(stripe)
    stripe.life.undo_refund(pb.UndoRefundRequest(key=made["id"], reversed=reversed_))
    got, undone = last(stripe)
    assert (got, undone["status"], undone["id"]) == (kind, status, made["id"])
    assert undone["metadata"] == made["metadata"]
    assert undone["failure_reason"]


def test_disputes_and_warnings_name_the_payment(stripe: Books) -> None:
    stripe.behave(dispute_fee_minor=15)
    stripe.life.warn_of_fraud(pb.WarnOfFraudRequest(hold=HOLD))
    intent = "pi_" + HOLD.removeprefix("hold_")
    assert last(stripe)[0] == "radar.early_fraud_warning.created"
    assert last(stripe)[1]["payment_intent"] == intent
    made, _ = stripe.life.open_dispute(pb.OpenDisputeRequest(hold=HOLD))
    kind, dispute = last(stripe)
    assert (kind, dispute["payment_intent"], dispute["status"]) == ("charge.dispute.created", intent, "needs_response")
    assert [(one["amount"], one["fee"]) for one in dispute["balance_transactions"]] == [(-80, 15)]
    stripe.life.update_dispute(made.dispute, pb.DISPUTE_STATE_WON)
    kind, dispute = last(stripe)
    assert (kind, dispute["status"]) == ("charge.dispute.closed", "won")
    assert [one["net"] for one in dispute["balance_transactions"]] == [-95, 80]


def test_an_own_event_of_a_call_has_its_fields_alone(books: Books) -> None:
    books.listen()
    books.apply(authorise())
    assert set(own_event(books.changes[0])) == {
        "key", "group", "status", "hold", "amount_minor", "currency", "capturable_until_ms", "reason", "action_url",
    }  # fmt: skip


def test_an_own_event_of_an_incident_names_the_order(books: Books) -> None:
    books.listen()
    books.apply(authorise())
    books.life.operate_by_hand(pb.OperateByHandRequest(hold=HOLD, kind=pb.EXTERNAL_KIND_CAPTURE))
    event = own_event(books.changes[-1])
    assert (event["order"], event["by_hand"], event["status"]) == ("a", True, "STATUS_CAPTURED")
    books.life.open_dispute(pb.OpenDisputeRequest(hold=HOLD))
    event = own_event(books.changes[-1])
    assert (event["order"], event["dispute_state"]) == ("a", "DISPUTE_STATE_NEEDS_RESPONSE")
    assert (event["withdrawn_minor"], event["by_hand"]) == (100, False)


def test_wechat_notifies_of_undone_refunds_and_complaints(books: Books) -> None:
    books.listen()
    books.apply(authorise("number*1", "wechat/g/o/sale/1/payer", sale=True))
    books.apply(refund(30, "r1", books.life.find("number*1").hold))
    books.life.undo_refund(pb.UndoRefundRequest(key="r1"))
    event = wechat_objects.event(books.changes[-1])
    assert event is not None
    assert (event["kind"], event["plain"]["refund_status"]) == ("REFUND.ABNORMAL", "ABNORMAL")
    made, _ = books.life.open_dispute(pb.OpenDisputeRequest(hold="number*1"))
    event = wechat_objects.event(books.changes[-1])
    assert event is not None
    assert (event["kind"], event["plain"]["complaint_id"]) == ("COMPLAINT.CREATE", made.dispute)


def test_copies_come_twice_late_and_in_reverse() -> None:
    twice = FaultInjector(pb.Behaviour(notify_twice_per_mille=1000, notify_twice_ms=5_000), 1)
    assert twice.notice_delays_ms("n") == [0, 5_000]
    reverse = FaultInjector(pb.Behaviour(notify_reverse_ms=1_000), 1)
    sent = [at_ms + reverse.notice_delays_ms("n", at_ms)[0] for at_ms in (2_000, 2_001, 2_999)]
    assert sent == [4_000, 3_999, 3_001], "each window in reverse, after its end"
