"""A log that was restored to an earlier time, with webhooks about later charges still coming, refunds nothing itself.

The provider has charges of which the log knows nothing, as after a restore. They wait in suspense, and an operator
returns them one by one. The test ends with the audit (see conftest).
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.operator_pb2_grpc import OperatorServiceStub
from groupbuy.simprovider.v1.simprovider_pb2 import AuthoriseRequest, CaptureRequest, StatementEntry

from tests.integration.shop import CALL_S, Shop, pause, retried, until

LOST = 12
#: Longer than the retries of webhooks and the effects of a decision take.
QUIET_S = 5.0


def charge(shop: Shop) -> str:
    """A charge at the provider for an order of which our log knows nothing. Returns its hold."""
    order = str(uuid4())
    held = shop.provider.Authorise(
        AuthoriseRequest(
            key=f"{order}:authorise:1",
            order=order,
            group=str(uuid4()),
            payment_method="card_ok",
            amount_minor=777,
            currency="CNY",
        ),
        timeout=CALL_S,
    )
    capture = CaptureRequest(key=f"{order}:capture:1", hold=held.hold, amount_minor=777)
    shop.provider.Capture(capture, timeout=CALL_S)
    return held.hold


def test_lost_charges_wait_for_an_operator_and_nothing_is_refunded_by_itself(shop: Shop) -> None:
    operators: Any = OperatorServiceStub(shop.stack.payments)
    shop.behave(notify_own=True, notify_twice_per_mille=500)
    holds = {charge(shop) for _ in range(LOST)}

    def waiting() -> list[pb.Issue]:
        request = pb.ListIssuesRequest(parent="groups/-", kinds=[pb.ISSUE_KIND_SUSPENSE], page_size=500)
        page = retried(lambda: operators.ListIssues(request, timeout=CALL_S))
        return [one for one in page.issues if one.hold in holds]

    def entries() -> list[StatementEntry]:
        return [one for one in shop.statement() if one.hold in holds]

    until(lambda: len(waiting()) == LOST)
    pause(QUIET_S)
    found = waiting()
    assert {one.hold for one in found} == holds
    assert all(one.amount_minor == 777 and one.HasField("next_attempt_time") for one in found)
    assert sum(one.refunded_minor for one in entries()) == 0

    for issue in found:
        request = pb.ApproveReturnRequest(
            name=issue.payment,
            request_id=str(uuid4()),
            reason="the log was restored, and the order is lost",
            hold=issue.hold,
            expected_version=issue.version,
        )
        retried(lambda request=request: operators.ApproveReturn(request, timeout=CALL_S))  # type: ignore[misc]
    until(lambda: all(one.refunded_minor == one.captured_minor for one in entries()))
    until(lambda: waiting() == [])
