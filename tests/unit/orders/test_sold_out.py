"""Orders for a sold-out stock item are refused early, and a stale hint does not end a sale."""

from __future__ import annotations

import pytest
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.inventory.v1.decisions_pb2 import (
    OFFER_STATE_ENDED,
    OFFER_STATE_LIVE,
    OFFER_STATE_SOLD_OUT,
    OfferState,
)
from groupbuy.inventory.v1.offers_pb2 import StockOffer

from chassis.rpc.errors import ApiError
from services.orders.api.placing.sold_out import PROBE_S, SoldOutCheck

DROP = Campaign(name="campaigns/mug", stock="stocks/drop")


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def checks(state: OfferState.ValueType) -> tuple[SoldOutCheck, Clock]:
    clock = Clock()
    return SoldOutCheck(_Offers(state), clock), clock


class _Offers:
    def __init__(self, state: OfferState.ValueType) -> None:
        self._offer = StockOffer(stock="drop", state=state, version=7)

    def find(self, key: str, /) -> StockOffer | None:
        return self._offer if key == "drop" else None


@pytest.mark.parametrize("state", [OFFER_STATE_SOLD_OUT, OFFER_STATE_ENDED])
def test_one_order_a_second_passes_and_the_others_are_refused(state: OfferState.ValueType) -> None:
    check, clock = checks(state)
    check.check(DROP)
    for _ in range(3):
        with pytest.raises(ApiError) as caught:
            check.check(DROP)
    assert caught.value.metadata == {"campaign": "campaigns/mug", "stock": "stocks/drop", "stock_version": "7"}
    clock.now_s += PROBE_S
    check.check(DROP)
    with pytest.raises(ApiError):
        check.check(DROP)


def test_orders_pass_while_pieces_are_free_or_nothing_is_known() -> None:
    live, _ = checks(OFFER_STATE_LIVE)
    sold_out, _ = checks(OFFER_STATE_SOLD_OUT)
    other = Campaign(name="campaigns/cup", stock="stocks/cups")
    for _ in range(3):
        live.check(DROP)
        SoldOutCheck(None).check(DROP)
        sold_out.check(other)
        sold_out.check(Campaign(name="campaigns/tea"))


def test_groups_with_a_waitlist_pass_because_they_stand_in_line() -> None:
    check, _ = checks(OFFER_STATE_SOLD_OUT)
    waits = Campaign(name="campaigns/mug", stock="stocks/drop", waitlist=True)
    for _ in range(3):
        check.check(waits)
