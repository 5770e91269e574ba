"""Orders that arrive all the time during the drills: small groups, each placed by a leader and a friend."""

from __future__ import annotations

import threading
from collections import Counter
from uuid import uuid4

import grpc
from groupbuy.orders.v1 import orders_pb2 as pb
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub

from tests.integration.shop import Shop

THREADS = 3
#: Pause of a thread between two groups, and the deadline of a call.
PAUSE_S, CALL_S = 0.4, 2.0


class Traffic:
    """Threads that place orders until stopped. Failed calls are counted and not repeated."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._campaign = shop.campaign(capacity=2, tiers=((2, 8_900),), window_s=20.0, hold_s=10.0)
        self._orders = OrderServiceStub(shop.stack.orders)
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(THREADS)]
        #: Calls by status code.
        self.answers: Counter[str] = Counter()

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(PAUSE_S):
            group = self._place("")
            if group:
                self._place(group)

    def _place(self, group: str) -> str:
        """Places one order. Returns its group; empty if the call failed."""
        request = self._shop.request(self._campaign, group, customer=f"c-{uuid4().hex[:8]}")
        try:
            order: pb.Order = self._orders.PlaceOrder(request, timeout=CALL_S).order
        except grpc.RpcError as error:
            self.answers[error.code().name] += 1
            return ""
        self.answers["OK"] += 1
        return order.group
