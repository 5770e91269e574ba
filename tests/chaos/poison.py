"""The poison part: one undecodable record in each inbox. Its partition stops, the others go on, and a recorded skip
resumes it: `python -m tests.chaos.run --only poison`.

Both services are killed meanwhile, so that they also meet the record at a start. The run is exact if orders in other
partitions were settled before the skips and no order behind a record was decided; and if afterwards all orders are
settled, and audit, replay and ledger are correct.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from groupbuy.orders.v1 import orders_pb2 as pb

from devstack.stack import Stack
from eventlog.core.partitioner import partition_of
from eventlog.records.topic_spec import TopicSpec
from groupbuy_testing.running import RunningStack
from ops.audit.run import wait_quiet
from ops.demo.player import Tally
from services.orders.domain.ids import group_id
from shared_kernel.topics import GROUP_INBOX, PAYMENT_INBOX
from tests.chaos.verdict import Found, in_time, verdict
from tests.integration.shop import FINAL, Shop, state

PARTITIONS = 4
VALUE = b"\xff\xffno message of ours"
#: Groups of two that are placed in each partition at a time.
PAIRS = 5
QUARANTINED_WITHIN_S, RESUMED_WITHIN_S, SETTLED_WITHIN_S = 60.0, 60.0, 120.0
#: Longer than the test, so that no group behind a poison record expires.
WINDOW_S, HOLD_S = 1_800.0, 900.0


@dataclass(frozen=True)
class Poison:
    """An undecodable record."""

    service: str
    inbox: TopicSpec
    partition: int
    offset: int

    @property
    def log_text(self) -> str:
        """Text in the service's log about the record."""
        return f"partition {self.partition} is quarantined"


def in_partition(partition: int) -> tuple[str, str]:
    """Customer and request id of an order that opens a group in a partition."""
    while True:
        customer, request = f"c-{uuid4().hex[:8]}", str(uuid4())
        if partition_of(group_id(customer, request), PARTITIONS) == partition:
            return customer, request


async def append_poison(kafka: str, service: str, inbox: TopicSpec, partition: int) -> Poison:
    """Appends an undecodable record."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        key = group_id(*in_partition(partition)).encode()
        written = await producer.send_and_wait(inbox.name, VALUE, key=key, partition=partition)
        return Poison(service, inbox, partition, written.offset)
    finally:
        await producer.stop()


class _Scenario:
    def __init__(self, stack: Stack, running: RunningStack) -> None:
        self._stack = stack
        self._shop = Shop(running)
        self._campaign = ""
        self.tally = Tally()

    def place_pairs(self, partition: int) -> list[pb.Order]:
        """Places orders that fill groups of two, and waits until the log has them."""
        orders = []
        for _ in range(PAIRS):
            customer, request = in_partition(partition)
            leader = self._shop.place(self._campaign, customer=customer, request_id=request, wait=pb.WAIT_ACCEPTED)
            orders += [leader, self._shop.place(self._campaign, leader.group, wait=pb.WAIT_ACCEPTED)]
        return orders

    def wait_settled(self, orders: Sequence[pb.Order]) -> None:
        """Waits until all orders are settled."""
        self._shop.wait_all(orders, "SETTLED", seconds=SETTLED_WITHIN_S)

    def wait_quarantined(self, poison: Poison, times: int = 1) -> None:
        """Waits until the service has logged the quarantine so many times."""
        what = f"{poison.service} does not log: {poison.log_text}"
        _until(lambda: self._stack.log(poison.service).count(poison.log_text) >= times, QUARANTINED_WITHIN_S, what)

    def run(self) -> dict[str, float]:
        """Runs the scenario. Returns its figures, with the seconds from the skips until all orders were settled."""
        self._campaign = self._shop.campaign(capacity=2, tiers=((2, 8_900),), window_s=WINDOW_S, hold_s=HOLD_S)
        self.wait_settled([order for partition in range(PARTITIONS) for order in self.place_pairs(partition)])
        kafka = self._stack.kafka
        poisons = [
            asyncio.run(append_poison(kafka, "groups", GROUP_INBOX, 0)),
            asyncio.run(append_poison(kafka, "payments", PAYMENT_INBOX, 1)),
        ]
        for poison in poisons:
            self.wait_quarantined(poison)
        without_seat, without_money = self.place_pairs(0), self.place_pairs(1)
        self.wait_settled([*self.place_pairs(2), *self.place_pairs(3)])
        for poison in poisons:
            self._stack.kill(poison.service, restart=False)
            self._stack.start_service(poison.service)
        for poison in poisons:
            self._stack.wait_serving(poison.service)
            self.wait_quarantined(poison, times=2)
        self.wait_settled([*self.place_pairs(2), *self.place_pairs(3)])
        self._check_undecided(without_seat, "PLACED")
        self._check_undecided(without_money, "RESERVED")
        skipped = time.monotonic()
        for poison in poisons:
            _skip(kafka, poison)
        self.wait_settled([*without_seat, *without_money])
        resumed_s = time.monotonic() - skipped
        self.wait_settled([order for partition in range(PARTITIONS) for order in self.place_pairs(partition)])
        self.tally.acknowledged = set(self._shop.placed)
        return {"resumed_s": round(resumed_s, 1), "poisons": len(poisons), "kills": len(poisons)}

    def _check_undecided(self, orders: Sequence[pb.Order], wanted: str) -> None:
        found = {state(self._shop.get(order)) for order in orders}
        assert not found & FINAL, f"orders behind a poison record are {found}"
        assert found == {wanted}, f"orders behind a poison record are {found}, not {wanted}"


def _skip(kafka: str, poison: Poison) -> None:
    """Records a skip with the operator's command."""
    position = (poison.inbox.name, str(poison.partition), str(poison.offset))
    command = (sys.executable, "-m", "ops.main", "skip", *position, "--reason", "planted", "--kafka", kafka)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _until(check: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, what
        time.sleep(0.1)


async def _verdict(stack: Stack, tally: Tally) -> Found:
    await wait_quiet(stack.kafka, deadline_s=SETTLED_WITHIN_S)
    return await verdict(stack, tally)


def part(seconds: float, seed: int) -> Found:
    """The poison part of `make chaos`, on a stack of its own. Its length does not depend on `seconds`."""
    with tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory, Stack(Path(directory) / "run") as stack:
        running = RunningStack(stack)
        try:
            scenario = _Scenario(stack, running)
            figures = scenario.run()
            found, good = asyncio.run(in_time(_verdict(stack, scenario.tally)))
        finally:
            running.close()
        return {**found, **figures}, good and figures["resumed_s"] <= RESUMED_WITHIN_S
