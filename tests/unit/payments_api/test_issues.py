"""ListIssues: each open issue once, over pages and replicas, by kind and with its alarm."""

from __future__ import annotations

from typing import Any

import pytest
from groupbuy.payments.v1 import operator_pb2 as pb

from chassis.rpc.errors import ApiError
from eventlog.core.errors import NotReady
from tests.unit.payments_api.operators import OperatorView, context, issues, operators
from tests.unit.payments_api.service import TIME_MS

ORDERS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(6)]


@pytest.fixture
def view() -> OperatorView:
    made = OperatorView()
    made.owe(ORDERS[3])
    made.stick(ORDERS[1])
    made.charge(ORDERS[4])
    made.stray(ORDERS[4])
    made.dispute(ORDERS[4])
    made.charge(ORDERS[5])
    return made


def orders(found: list[pb.Issue]) -> list[tuple[str, int]]:
    return [(one.payment.split("/")[3], one.kind) for one in found]


async def test_every_kind_is_listed_by_payment(view: OperatorView) -> None:
    found = await issues(view)
    assert orders(found) == [
        (ORDERS[1], pb.ISSUE_KIND_CALL),
        (ORDERS[3], pb.ISSUE_KIND_OWED),
        (ORDERS[4], pb.ISSUE_KIND_SUSPENSE),
        (ORDERS[4], pb.ISSUE_KIND_DISPUTE),
    ]
    call, owed, suspense, dispute = found
    assert (owed.amount_minor, owed.currency, owed.reason, owed.alarm) == (100, "CNY", "account closed", False)
    assert owed.next_attempt_time.ToMilliseconds() > TIME_MS
    assert (call.attempt, call.alarm) == (1, False)
    assert (suspense.amount_minor, suspense.alarm) == (70, False)
    assert (dispute.reference, dispute.amount_minor, dispute.alarm) == ("dp_1", 100, True)
    assert "secret" not in str(found)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 500])
async def test_pages_hold_each_issue_once(view: OperatorView, size: int) -> None:
    assert await issues(view, page_size=size) == await issues(view)


async def test_kinds_and_alarms_are_picked(view: OperatorView) -> None:
    picked = await issues(view, kinds=[pb.ISSUE_KIND_OWED, pb.ISSUE_KIND_CALL], page_size=1)
    assert orders(picked) == [(ORDERS[1], pb.ISSUE_KIND_CALL), (ORDERS[3], pb.ISSUE_KIND_OWED)]
    assert orders(await issues(view, alarms_only=True)) == [(ORDERS[4], pb.ISSUE_KIND_DISPUTE)]


async def test_one_group_is_listed_alone(view: OperatorView) -> None:
    parent = "/".join((await issues(view))[0].payment.split("/")[:2])
    assert await issues(view, parent=parent, page_size=3) == await issues(view)
    assert await issues(view, parent=f"groups/{ORDERS[0]}") == []


async def test_a_token_of_another_list_is_refused(view: OperatorView) -> None:
    request = pb.ListIssuesRequest(parent="groups/-", page_size=1)
    token = (await operators(view).ListIssues(request, context())).next_page_token
    others: list[dict[str, Any]] = [
        {"alarms_only": True},
        {"kinds": [pb.ISSUE_KIND_OWED]},
        {"parent": f"groups/{ORDERS[0]}"},
    ]
    for other in others:
        with pytest.raises(ApiError) as caught:
            await issues(view, page_token=token, **other)
        assert caught.value.reason_name == "INVALID_FIELDS"


async def test_a_moved_partition_is_not_an_empty_list(view: OperatorView) -> None:
    view.moved = True
    with pytest.raises(NotReady):
        await issues(view)
