"""Scenarios of the inventory domains: builders of inputs, and aggregates that run as in the kernel."""

from __future__ import annotations

from typing import Any

from groupbuy.inventory.v1.decisions_pb2 import AllowanceEvent, StockEvent
from groupbuy.inventory.v1.inbox_pb2 import (
    AllowanceInput,
    ArchiveStockCommand,
    CreateStockCommand,
    GroupAllowance,
    GroupUnits,
    OrderRequest,
    StockInput,
    UpdateStockCommand,
)
from groupbuy.log.v1.log_pb2 import Source, Tick

from services.inventory.domain.allowance.domain import AllowanceDomain
from services.inventory.domain.allowance.model import Allowance
from services.inventory.domain.stock.domain import StockDomain
from services.inventory.domain.stock.model import StockItem
from services.inventory.processors import codec
from tests.scenarios.scenario import Scenario

START_MS = 1_760_000_000_000


def _line(event: StockEvent | AllowanceEvent) -> str:
    body = event.WhichOneof("body") or ""
    fields = [
        str(value) if field.name not in ("from_line", "queued") else field.name
        for field, value in getattr(event, body).ListFields()
        if field.name not in ("request_id",)
    ]
    return " ".join([body, *fields])


class Item(Scenario[StockItem]):
    """One stock item. `lines` leaves out what was heard."""

    def __init__(self, total: int = 10, divisor: int = 1) -> None:
        super().__init__(StockDomain(), "drop", _line, start_ms=START_MS)
        self._causes = 0
        self.given(create(total, divisor))

    @property
    def lines(self) -> list[str]:
        return [line for line in super().lines if not line.startswith(("heard", "offer_changed"))]

    def check_state(self) -> None:
        assert codec.STOCK.decode(codec.STOCK.encode(self.state)) == self.state
        state = self.state
        assert state.leased == sum(one.units for one in state.leases.values())
        assert state.open_leases == sum(not one.closed for one in state.leases.values())
        assert state.free >= 0

    def hears(self, group: str, *, cause: int | None = None, partition: int = 0, **fields: Any) -> list[str]:
        """The events of the next decision of a group."""
        if cause is None:
            self._causes += 1
            cause = self._causes
        self.when(units(group, cause=cause, partition=partition, **fields))
        return self.lines


def units(group: str, *, cause: int, partition: int = 0, **fields: Any) -> StockInput:
    body = GroupUnits(group=group, cause=cause, **fields)
    return StockInput(source=Source(topic="groups.group.v1", partition=partition), group_units=body)


def create(total: int, divisor: int = 1, request_id: str = "create") -> StockInput:
    return StockInput(create=CreateStockCommand(request_id=request_id, total=total, lease_divisor=divisor))


def update(request_id: str = "update", **fields: Any) -> StockInput:
    return StockInput(update=UpdateStockCommand(request_id=request_id, **fields))


def archive(request_id: str = "archive", revision: int = 0) -> StockInput:
    return StockInput(archive=ArchiveStockCommand(request_id=request_id, expected_revision=revision))


def tick() -> StockInput:
    return StockInput(tick=Tick())


class Customer(Scenario[Allowance]):
    """The allowance of one customer, with a limit of two pieces."""

    def __init__(self) -> None:
        super().__init__(AllowanceDomain(), "mug/ann", _line, start_ms=START_MS)

    @property
    def lines(self) -> list[str]:
        return [line for line in super().lines if not line.startswith("heard")]

    def check_state(self) -> None:
        assert codec.ALLOWANCE.decode(codec.ALLOWANCE.encode(self.state)) == self.state
        assert self.state.pieces == sum(self.state.admitted.values())


def asks(
    group: str, *orders: str, cause: int, quantity: int = 1, returned: Any = (), partition: int = 0
) -> AllowanceInput:
    body = GroupAllowance(
        group=group,
        cause=cause,
        limit=2,
        requested=[OrderRequest(order=order, quantity=quantity) for order in orders],
        returned=returned,
    )
    return AllowanceInput(source=Source(topic="groups.group.v1", partition=partition), group_allowance=body)
