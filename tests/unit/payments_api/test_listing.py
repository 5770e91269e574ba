"""ListPayments: the pages hold each payment once, whatever changes between two pages."""

from __future__ import annotations

import grpc
import pytest
from groupbuy.payments.v1.payments_pb2 import ListPaymentsRequest, ListPaymentsResponse

from chassis.rpc.errors import ApiError
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.unit.payments_api.service import Decider, servicer

ORDERS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(7)]


@pytest.fixture
def decider() -> Decider:
    made = Decider()
    for order in (ORDERS[5], ORDERS[1], ORDERS[3]):
        made.charge(order)
    return made


async def page(decider: Decider, size: int = 0, token: str = "", parent: str = GROUP) -> ListPaymentsResponse:
    request = ListPaymentsRequest(parent=f"groups/{parent}", page_size=size, page_token=token)
    return await servicer(decider).ListPayments(request, call())


def orders(answer: ListPaymentsResponse) -> list[str]:
    return [payment.name.split("/")[3] for payment in answer.payments]


async def test_payments_are_listed_by_order_id(decider: Decider) -> None:
    answer = await page(decider)
    assert orders(answer) == [ORDERS[1], ORDERS[3], ORDERS[5]]
    assert answer.next_page_token == ""
    assert {payment.captured_minor for payment in answer.payments} == {100}
    assert "card_secret" not in str(answer)


async def test_a_payment_added_between_two_pages_shifts_no_other(decider: Decider) -> None:
    first = await page(decider, 2)
    assert orders(first) == [ORDERS[1], ORDERS[3]]
    decider.charge(ORDERS[0])
    decider.charge(ORDERS[4])
    assert orders(await page(decider, 2, first.next_page_token)) == [ORDERS[4], ORDERS[5]]


async def test_a_token_of_another_list_is_refused(decider: Decider) -> None:
    first = await page(decider, 2)
    for token, parent in (("nonsense", GROUP), (first.next_page_token, GROUP.replace("0b6a", "0000"))):
        with pytest.raises(ApiError) as caught:
            await page(decider, 2, token, parent)
        assert caught.value.reason_name == "INVALID_FIELDS"


async def test_a_group_without_payments_is_not_found(decider: Decider) -> None:
    with pytest.raises(ApiError) as caught:
        await page(decider, parent=ORDERS[0])
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.NOT_FOUND, "GROUP_NOT_FOUND")
