"""Maps group decisions to inputs of stock items and allowances.

An input names the group's decision: its position, its version and its cause. It has ids and numbers alone: the payment
method and the other fields of an order stay in the group's log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.inventory.v1.inbox_pb2 import AllowanceInput, GroupAllowance, GroupUnits, StockInput

from eventlog.core.route_mapper import Routed, RouteMapper, RouteMappers
from shared_kernel import topics

NOTHING: tuple[Routed, ...] = ()
_UNITS = frozenset({"units_requested", "units_returned", "units_sold"})
_ALLOWANCE = frozenset({"admission_requested", "allowance_returned"})


class InventoryRoutes(RouteMappers):
    """The mappers of the inventory router."""

    def __init__(self, stocks: str = topics.STOCK_INBOX.name, allowances: str = topics.ALLOWANCE_INBOX.name) -> None:
        """`stocks` and `allowances` are the inboxes to route to."""
        self._inboxes = stocks, allowances

    def for_partition(self, topic: str, partition: int) -> RouteMapper:
        """See RouteMappers."""
        return _GroupMapper(topic, partition, *self._inboxes)


class _GroupMapper(RouteMapper):
    """Group decisions to stock items and allowances."""

    def __init__(self, topic: str, partition: int, stocks: str, allowances: str) -> None:
        self._topic = topic
        self._partition = partition
        self._stocks = stocks
        self._allowances = allowances

    def decode(self, value: bytes, /) -> GroupDecision:
        """See RouteMapper."""
        return GroupDecision.FromString(value)

    def routes(self, record: Any) -> Sequence[Routed]:
        """At most one record for each stock item and each allowance."""
        decision = GroupDecision.FromString(record.value)
        self.decision = decision
        if decision.group.encode() != record.key:
            raise DecodeError(f"a GroupDecision of group {decision.group!r} under the key {record.key!r}")
        units: dict[str, GroupUnits] = {}
        allowances: dict[str, GroupAllowance] = {}
        for event in decision.events[:]:
            body = event.WhichOneof("body")
            if body in _UNITS:
                _add_units(units, body, getattr(event, body))
            elif body in _ALLOWANCE:
                _add_allowance(allowances, body, getattr(event, body))
            elif body is None:
                raise DecodeError("the GroupEvent has no body that this build knows")
        if not units and not allowances:
            return NOTHING
        return self._inputs(decision, record.offset, units, allowances)

    def _inputs(
        self,
        decision: GroupDecision,
        offset: int,
        units: dict[str, GroupUnits],
        allowances: dict[str, GroupAllowance],
    ) -> list[Routed]:
        found = []
        made: StockInput | AllowanceInput
        for stock, asked in units.items():
            made = StockInput()
            self._name(made, asked, decision, offset)
            made.group_units.CopyFrom(asked)
            found.append(Routed(self._stocks, stock, made.SerializeToString()))
        for key, allowance in allowances.items():
            made = AllowanceInput()
            self._name(made, allowance, decision, offset)
            made.group_allowance.CopyFrom(allowance)
            found.append(Routed(self._allowances, key, made.SerializeToString()))
        return found

    def _name(
        self,
        made: StockInput | AllowanceInput,
        asked: GroupUnits | GroupAllowance,
        decision: GroupDecision,
        offset: int,
    ) -> None:
        """Names the decision that an input follows from."""
        made.source.topic = self._topic
        made.source.partition = self._partition
        made.source.offset = offset
        asked.group = decision.group
        asked.version = decision.version
        asked.cause = decision.cause


def _add_units(found: dict[str, GroupUnits], body: str, event: Any) -> None:
    units = found.setdefault(event.stock, GroupUnits())
    if body == "units_requested":
        units.at_least = event.at_least
        units.wanted = event.wanted
        units.at_most = event.at_most
        units.queue = event.queue
    elif body == "units_returned":
        units.returned += event.units
        units.closed = units.closed or event.closed
    else:
        units.sold += event.units


def _add_allowance(found: dict[str, GroupAllowance], body: str, event: Any) -> None:
    allowance = found.setdefault(f"{event.campaign}/{event.customer}", GroupAllowance())
    if body == "admission_requested":
        allowance.limit = event.limit
        allowance.requested.add(order=event.order, quantity=event.quantity)
    else:
        allowance.returned.append(event.order)
