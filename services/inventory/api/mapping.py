"""Maps states to messages of the API."""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.inventory.v1 import decisions_pb2 as pb
from groupbuy.inventory.v1.stocks_pb2 import Lease, Stock

from eventlog.core.aggregate import Aggregate
from services.inventory.domain.stock.model import StockItem


def stock_message(aggregate: Aggregate[StockItem]) -> Stock:
    """A stock item."""
    state = aggregate.state
    made = Stock(
        name=f"stocks/{aggregate.key}",
        display_name=state.display_name,
        total=state.total,
        lease_divisor=state.lease_divisor,
        state=_offer(state),
        free=state.free,
        leased=state.leased,
        sold=state.sold,
        leases=len(state.leases),
        waiting=len(state.line),
        revision=state.revision,
        version=aggregate.version,
        etag=etag(state),
    )
    made.create_time.FromMilliseconds(state.created_ms)
    made.update_time.FromMilliseconds(state.updated_ms)
    return made


def _offer(state: StockItem) -> pb.OfferState.ValueType:
    if state.archived:
        return pb.OFFER_STATE_ENDED
    return pb.OFFER_STATE_LIVE if state.free > 0 else pb.OFFER_STATE_SOLD_OUT


def etag(state: StockItem) -> str:
    """The revision, as the etag of the API."""
    return f"r{state.revision}"


def revision_of(text: str) -> int:
    """The revision that an etag names: 0 for an empty one, -1 for one that no stock item has."""
    if not text:
        return 0
    number = text.removeprefix("r")
    return int(number) if text.startswith("r") and number.isascii() and number.isdecimal() and len(number) < 19 else -1


def leases(state: StockItem) -> Iterator[Lease]:
    """The groups that have pieces or wait in line."""
    for group in {*state.leases, *state.line}:
        lease = state.leases.get(group)
        yield Lease(
            group=f"groups/{group}",
            units=0 if lease is None else lease.units,
            closed=lease is not None and lease.closed,
            waits_for=state.line.get(group, 0),
        )
