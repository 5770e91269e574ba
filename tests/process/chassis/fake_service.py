"""A service process without Kafka or state, for tests of start and stop. Run it as a module.

Commands on standard input: `available 1`, `recovered`, `ready 0`, `quarantine 1`, `differ`,
`cancelled`, `never_stop`, `stuck`, `busy`, `fill`. With REAL_BROKER in the environment it connects to a broker.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any

from groupbuy.orders.v1 import orders_pb2_grpc

from chassis.admission.thread_priority import DECIDING
from chassis.lifecycle.broker_health import BrokerHealth
from chassis.lifecycle.runner import Servicer, ServiceSpec, run
from chassis.lifecycle.settings import load
from eventlog.core.errors import Poisoned, TopicsDiffer
from eventlog.producing.publisher import Publisher
from services.orders.settings import OrdersSettings
from shared_kernel.topics import BUSINESS
from tests.unit.chassis.fake_orders import ORDERS, FakeOrders

#: Timeout of the watchdog in seconds, shorter than a service's.
STUCK_S = 0.5


class FakeBroker:
    def __init__(self, *_: object) -> None:
        self.available = False
        self.differs = False
        self.changed = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def wait(self) -> int:
        # A command before the wait counts too.
        while not (self.available or self.differs):
            self.changed.clear()
            await self.changed.wait()
        if self.differs:
            raise TopicsDiffer("orders.order.v1 has 3 partitions")
        return 4

    async def watch(self) -> None:
        await self.cancelled.wait()
        raise asyncio.CancelledError

    async def close(self) -> None:
        report("broker closed")


class FakePublisher:
    def __init__(self) -> None:
        self.partitions = 0
        self.ready = True

    async def start(self, partitions: int) -> None:
        self.partitions = partitions

    async def stop(self) -> None:
        report("publisher stopped")


class FakeProcessors:
    def __init__(self) -> None:
        self.ready = False
        self.recovered = asyncio.Event()
        self.never_stop = False
        self.quarantined: list[tuple[str, Poisoned]] = []

    async def start(self, partitions: int) -> None:
        report(f"processors start with {partitions}")
        await self.recovered.wait()
        self.ready = True

    async def stop(self) -> None:
        if self.never_stop:
            await asyncio.Event().wait()
        report("processors stopped")


def report(line: str) -> None:
    print(f"event {line}", flush=True)


class Controls:
    """Runs the commands on standard input."""

    def __init__(self, broker: FakeBroker, processors: FakeProcessors, publisher: Any) -> None:
        self.publisher = publisher
        self.broker = broker
        self.processors = processors
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    def _read(self) -> None:
        for line in os.read(sys.stdin.fileno(), 1000).decode().splitlines():
            word, _, value = line.partition(" ")
            getattr(self, word)(value == "1")

    def available(self, value: bool) -> None:
        self.broker.available = value
        self.broker.changed.set()

    def differ(self, _value: bool) -> None:
        self.broker.differs = True
        self.broker.changed.set()

    def recovered(self, _value: bool) -> None:
        self.processors.recovered.set()

    def ready(self, value: bool) -> None:
        self.processors.ready = value

    def producer(self, value: bool) -> None:
        self.publisher.ready = value

    def quarantine(self, value: bool) -> None:
        poisoned = Poisoned.for_record("orders.order.v1", 2, 17, b"?", "planted")
        self.processors.quarantined = [("orders.view", poisoned)] if value else []

    def cancelled(self, _value: bool) -> None:
        self.broker.cancelled.set()

    def never_stop(self, _value: bool) -> None:
        self.processors.never_stop = True

    def stuck(self, _value: bool) -> None:
        report("stuck")
        while True:
            time.monotonic()

    def busy(self, _value: bool, left: int = 4) -> None:
        if not left:
            report("busy no more")
            return
        # Not stuck: other tasks run in between.
        time.sleep(STUCK_S * 0.4)
        asyncio.get_running_loop().call_soon(self.busy, False, left - 1)

    def fill(self, _value: bool) -> None:
        """Writes to standard error until its pipe is full."""

        def speak() -> None:
            while True:
                os.write(sys.stderr.fileno(), bytes(1 << 16))

        threading.Thread(target=speak, daemon=True).start()


def main() -> int:
    processors = FakeProcessors()
    broker = FakeBroker()

    def build(settings: OrdersSettings) -> ServiceSpec:
        real = "REAL_BROKER" in os.environ
        publisher: Any = Publisher(settings.kafka, client_id="test") if real else FakePublisher()
        Controls(broker, processors, publisher)
        servicer = Servicer(orders_pb2_grpc.add_OrderServiceServicer_to_server, FakeOrders(), ORDERS)
        return ServiceSpec([servicer], publisher, processors, BUSINESS, DECIDING)

    make: Any = BrokerHealth if "REAL_BROKER" in os.environ else lambda *_: broker
    return run(load(OrdersSettings), build, make_broker=make, stuck_s=STUCK_S)


if __name__ == "__main__":
    sys.exit(main())
