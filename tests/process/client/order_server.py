"""A small orders service in a process of its own: `python -m tests.process.client.order_server PORT`.

GetOrder answers after a while, so that a kill meets calls in flight. The order's `revision` is the process id.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent import futures
from typing import Any

import grpc
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc

#: Seconds that GetOrder takes.
ANSWER_S = 0.2


class Orders(orders_pb2_grpc.OrderServiceServicer):
    """Answers GetOrder."""

    def GetOrder(self, request: orders_pb2.GetOrderRequest, context: Any) -> orders_pb2.Order:
        threading.Event().wait(ANSWER_S)
        return orders_pb2.Order(name=request.name, revision=os.getpid())


def main() -> None:
    """Serves until it is killed."""
    server = grpc.server(futures.ThreadPoolExecutor(16))
    orders_pb2_grpc.add_OrderServiceServicer_to_server(Orders(), server)  # type: ignore[abstract] # no other call comes
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    print("serves", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
