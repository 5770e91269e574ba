"""Finds an order by its id alone, which does not say the partition: every owner looks into the index of its partitions.

A look-up costs one row of each partition. It is limited for each identity, because it costs all replicas a call.
"""

from __future__ import annotations

from groupbuy.orders.v1.orders_pb2 import GetOrderRequest, Order

from chassis.admission.cost_limits import CostLimit
from chassis.admission.rate_limit import RateLimit
from chassis.routing.partition_router import LocalRouter, Partitions
from chassis.routing.peer_calls import Context, requested_partitions
from chassis.rpc.streaming.call_deadline import CallDeadline
from services.orders.api.errors import order_id_not_found
from services.orders.api.reading import Reader

#: Look-ups a second of one identity, and its burst.
RATE = RateLimit(100, 200)


class OrderFinder:
    """Handler of GetOrder for groups/-/orders/{order}."""

    def __init__(self, reader: Reader, replicas: LocalRouter) -> None:
        self._reader = reader
        self._replicas = replicas
        self._cost = CostLimit("look-ups of orders without their group", RATE)

    async def find(self, order: str, request: GetOrderRequest, context: Context) -> Order:
        """The order. Raises ApiError ORDER_NOT_FOUND, RATE_LIMITED and INVALID_FIELDS, and NotReady.

        For another replica, which asks about some partitions, an order that is not there is an empty message: an error
        would end the look-up in all partitions.
        """
        self._cost.require()
        self._cost.charge(1)

        async def here(partitions: Partitions) -> Order:
            token = self._reader.parse_token(request.consistency_token) if request.consistency_token else None
            await self._reader.all_caught_up(token, CallDeadline(context), partitions)
            found = self._reader.find_by_id(order, partitions)
            return Order() if found is None else found.message()

        parts = await self._replicas.scatter_gather("GetOrder", request, context, here)
        found = next((part for part in parts if part.name), None)
        if found is not None:
            return found
        if requested_partitions(context) is not None:
            return Order()
        raise order_id_not_found(order)
