"""StockService edits stock items through their inbox, and answers with the decision."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from groupbuy.errors.v1 import errors_pb2 as reasons
from groupbuy.inventory.v1 import decisions_pb2
from groupbuy.inventory.v1.stocks_pb2 import (
    ArchiveStockRequest,
    CreateStockRequest,
    GetAllowanceRequest,
    GetStockRequest,
    ListLeasesRequest,
    ListStocksRequest,
    Stock,
    UpdateStockRequest,
    WatchStockRequest,
)

from chassis.rpc.errors import ApiError
from services.inventory.api import stocks as api
from tests.unit.inventory.items import asks, units
from tests.unit.inventory_api.world import Context, World


async def create(world: World, total: int = 10, key: str = "drop", request_id: str = "") -> Stock:
    request = CreateStockRequest(stock=Stock(total=total), stock_id=key, request_id=request_id or str(uuid4()))
    made: Stock = await world.servicer.CreateStock(request, Context())
    return made


async def update(world: World, *paths: str, etag: str = "", **fields: object) -> Stock:
    stock = Stock(name="stocks/drop", etag=etag, **fields)  # type: ignore[arg-type]
    request = UpdateStockRequest(stock=stock, update_mask=FieldMask(paths=paths), request_id=str(uuid4()))
    made: Stock = await world.servicer.UpdateStock(request, Context())
    return made


def lease(world: World, group: str, cause: int, pieces: int = 1, *, queue: bool = False) -> None:
    value = units(group, cause=cause, at_least=pieces, at_most=pieces, queue=queue)
    world.stocks.put("drop", value.SerializeToString())


async def refusal(call: object) -> int:
    with pytest.raises(ApiError) as caught:
        await call  # type: ignore[misc]
    return int(caught.value.reason)


async def test_a_created_item_is_read_and_a_retry_returns_it() -> None:
    world = World()
    made = await create(world, 10, request_id="1f0c1a52-0000-4000-8000-000000000001")
    assert (made.name, made.total, made.free, made.lease_divisor, made.revision) == ("stocks/drop", 10, 10, 8, 1)
    assert made.state == decisions_pb2.OFFER_STATE_LIVE
    again = await create(world, 10, request_id="1f0c1a52-0000-4000-8000-000000000001")
    assert again == made == await world.servicer.GetStock(GetStockRequest(name="stocks/drop"), Context())
    assert await create(world, 10) == made
    assert await refusal(create(world, 11)) == reasons.ERROR_REASON_STOCK_EXISTS


async def test_an_update_changes_the_masked_fields_and_fails_with_an_old_etag() -> None:
    world = World()
    made = await create(world, 10)
    changed = await update(world, "total", total=20, display_name="ignored", etag=made.etag)
    assert (changed.total, changed.display_name, changed.revision) == (20, "", 2)
    assert await refusal(update(world, "total", total=30, etag=made.etag)) == reasons.ERROR_REASON_ETAG_MISMATCH
    assert await refusal(update(world, "total", total=30, etag="nonsense")) == reasons.ERROR_REASON_ETAG_MISMATCH
    assert await refusal(update(world, "sold", total=30)) == reasons.ERROR_REASON_INVALID_FIELDS
    # Without a mask, the fields that are set.
    assert (await update(world, display_name="Mugs")).total == 20
    assert (await update(world, "*", total=0)).total == 0


async def test_a_total_below_what_is_out_is_refused() -> None:
    world = World()
    await create(world, 10)
    lease(world, "g1", 1, 4)
    assert await refusal(update(world, "total", total=3)) == reasons.ERROR_REASON_STOCK_BELOW_OUT
    assert (await update(world, "total", total=4)).free == 0


async def test_an_archived_item_is_not_edited_and_is_listed_on_demand() -> None:
    world = World()
    await create(world, 1, "cups")
    await create(world)
    request = ArchiveStockRequest(name="stocks/drop", request_id=str(uuid4()))
    assert (await world.servicer.ArchiveStock(request, Context())).state == decisions_pb2.OFFER_STATE_ENDED
    assert await refusal(update(world, "total", total=3)) == reasons.ERROR_REASON_STOCK_ARCHIVED
    for show, expected in ((False, ["stocks/cups"]), (True, ["stocks/cups", "stocks/drop"])):
        found = await world.servicer.ListStocks(ListStocksRequest(show_archived=show), Context())
        assert [one.name for one in found.stocks] == expected


async def test_an_item_that_was_not_created_is_not_found() -> None:
    world = World()
    lease(world, "g1", 1)
    assert await refusal(world.servicer.GetStock(GetStockRequest(name="stocks/drop"), Context())) == (
        reasons.ERROR_REASON_STOCK_NOT_FOUND
    )
    assert await refusal(update(world, "total", total=1)) == reasons.ERROR_REASON_STOCK_NOT_FOUND


async def test_a_command_without_a_decision_before_the_deadline_is_pending() -> None:
    world = World()
    world.stocks.decides = False
    request = CreateStockRequest(stock=Stock(total=1), stock_id="drop", request_id=str(uuid4()))
    assert await refusal(world.servicer.CreateStock(request, Context(0.2))) == reasons.ERROR_REASON_ANSWER_PENDING


async def test_leases_are_listed_by_group_with_those_that_wait() -> None:
    world = World()
    await create(world, 3)
    lease(world, "b", 1, 2)
    lease(world, "a", 2, 1)
    lease(world, "c", 3, 5, queue=True)
    first = await world.servicer.ListLeases(ListLeasesRequest(name="stocks/drop", page_size=2), Context())
    assert [(one.group, one.units, one.waits_for) for one in first.leases] == [("groups/a", 1, 0), ("groups/b", 2, 0)]
    request = ListLeasesRequest(name="stocks/drop", page_size=2, page_token=first.next_page_token)
    rest = await world.servicer.ListLeases(request, Context())
    assert [(one.group, one.units, one.waits_for) for one in rest.leases] == [("groups/c", 0, 5)]


async def test_an_allowance_lists_the_orders_that_count() -> None:
    world = World()
    request = GetAllowanceRequest(campaign="campaigns/mug", customer="ann")
    assert (await world.servicer.GetAllowance(request, Context())).version == 0
    world.allowances.put("mug/ann", asks("g1", "b", "a", cause=1).SerializeToString())
    found = await world.servicer.GetAllowance(request, Context())
    assert (found.pieces, list(found.orders), found.version) == (2, ["a", "b"], 1)


async def test_a_watch_sends_the_latest_state_after_many_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "WATCH_INTERVAL_S", 0.01)
    world = World()
    await create(world, 50)
    watch = world.servicer.WatchStock(WatchStockRequest(name="stocks/drop"), Context())
    async with asyncio.timeout(5):
        assert (await anext(watch)).message.free == 50
        for number in range(20):
            lease(world, f"g{number}", number + 1)
        seen = (await anext(watch)).message
    assert (seen.free, seen.leases) == (30, 20)
    await watch.aclose()
