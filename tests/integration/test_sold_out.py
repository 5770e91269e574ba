"""A sold-out stock item on a real system: orders are refused before they are in the log, and again taken once there are
pieces, also after the inventory service was killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest, Tier
from groupbuy.inventory.v1.stocks_pb2 import CreateStockRequest, Stock, UpdateStockRequest
from groupbuy.inventory.v1.stocks_pb2_grpc import StockServiceStub

from devstack.product import INVENTORY, WITH_INVENTORY
from devstack.stack import Stack
from groupbuy_client.errors import of_rpc
from groupbuy_testing.running import RunningStack
from tests.integration.shop import CALL_S, Shop, retried, state, until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with Stack(tmp_path_factory.mktemp("sold-out"), plan=WITH_INVENTORY) as stack:
        made = RunningStack(stack)
        try:
            yield made
        finally:
            made.close()


def drop(shop: Shop) -> str:
    """A campaign with a stock item of one piece."""
    offer = Campaign(
        product="drop",
        currency="CNY",
        solo_price_minor=9_900,
        tiers=[Tier(members=2, unit_price_minor=8_900)],
        capacity=2,
        window=Duration(seconds=60),
        hold_window=Duration(seconds=60),
        stock="stocks/drop",
    )
    request = CreateCampaignRequest(campaign=offer, campaign_id="drop", request_id=str(uuid4()))
    return retried(lambda: shop.campaigns.CreateCampaign(request, timeout=CALL_S)).name


def opens(shop: Shop, campaign: str) -> str:
    """The state of an order that opens a group, or the reason why it is refused before it is in the log."""
    try:
        return state(shop.place(campaign))
    except grpc.RpcError as error:
        return of_rpc(error).reason


def test_orders_for_a_sold_out_stock_item_are_refused_until_there_are_pieces(running: RunningStack) -> None:
    shop = Shop(running)
    with grpc.insecure_channel(running.endpoints[INVENTORY]) as channel:
        stocks = StockServiceStub(channel)
        create = CreateStockRequest(stock=Stock(total=1), stock_id="drop", request_id=str(uuid4()))
        retried(lambda: stocks.CreateStock(create, timeout=CALL_S))
        campaign = drop(shop)
        # It is answered once it has its piece.
        first = shop.place(campaign)
        assert state(first) in ("RESERVED", "CONFIRMED")
        until(lambda: opens(shop, campaign) == "SOLD_OUT", 30)
        # The group of the first order seats nobody else: it has one piece. That is the group's word.
        second = shop.place(campaign, first.group)
        assert (state(second), second.reason) == ("REFUSED", "SOLD_OUT")

        running.stack.kill(INVENTORY)
        more = UpdateStockRequest(
            stock=Stock(name="stocks/drop", total=9), update_mask=FieldMask(paths=["total"]), request_id=str(uuid4())
        )
        retried(lambda: stocks.UpdateStock(more, timeout=CALL_S))
        until(lambda: opens(shop, campaign) in ("RESERVED", "CONFIRMED"), 30)
