"""Calls a server with the installed client, synchronous and asynchronous. Needs groupbuy-client alone.

The server has one order and refuses any other name with the error details of the contract. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import google.protobuf
import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc

from groupbuy_client import AsyncClient, Client, InvalidRequest

NAME = "groups/510a5209-1010-5cce-9eac-8b7fb123d3af/orders/9f6c1c5e-0000-4000-8000-000000000001"


# In the types a servicer is abstract; a method that it leaves out answers UNIMPLEMENTED.
Servicer: Any = orders_pb2_grpc.OrderServiceServicer


class Orders(Servicer):  # type: ignore[misc]
    """Knows one order, and counts the attempts of each call."""

    def __init__(self) -> None:
        self.attempts = 0

    def GetOrder(self, request: orders_pb2.GetOrderRequest, context: grpc.ServicerContext) -> orders_pb2.Order:
        """The order; the first attempt of all finds the service unavailable."""
        self.attempts += 1
        if self.attempts == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        if request.name != NAME:
            status = Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="bad name")
            for detail in (
                ErrorInfo(reason="INVALID_FIELDS"),
                BadRequest(field_violations=[BadRequest.FieldViolation(field="name", description="is unknown")]),
            ):
                packed = Packed()
                packed.Pack(detail)
                status.details.append(packed)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, status.message)
        return orders_pb2.Order(name=NAME, state=orders_pb2.OrderState.ORDER_STATE_SETTLED, captured_minor=7900)


def main() -> None:
    """Serves, calls with both clients, and prints what they saw."""
    servicer = Orders()
    server = grpc.server(ThreadPoolExecutor(2))
    orders_pb2_grpc.add_OrderServiceServicer_to_server(servicer, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with Client(target, timeout_s=20) as client:
        found = [client.get_order(NAME).captured_minor]
        try:
            client.get_order("groups/none")
        except InvalidRequest as error:
            refused: dict[str, Any] = {"reason": error.reason, "fields": error.fields}
    found.append(asyncio.run(_ask(target)))
    server.stop(None)
    versions = {"grpcio": grpc.__version__, "protobuf": google.protobuf.__version__}
    print(json.dumps({"captured": found, "attempts": servicer.attempts, "refused": refused, **versions}))


async def _ask(target: str) -> int:
    async with AsyncClient(target, timeout_s=20) as client:
        return (await client.get_order(NAME)).captured_minor


if __name__ == "__main__":
    main()
