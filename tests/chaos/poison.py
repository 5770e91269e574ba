"""The poison part: a record that no build decodes in each inbox. Its partition stops, the others go on, and a recorded
skip lets it go on too: `python -m tests.chaos.run --only poison`.

Both services are killed meanwhile, so that they meet the record at a start as well. Exact means: while the records
stood there, orders elsewhere were settled and no order behind one was decided; at the end all are settled, and the
audit, the replay and the books hold.
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
#: Groups of two in each partition, each time.
PAIRS = 5
QUARANTINED_WITHIN_S, RESUMED_WITHIN_S, SETTLED_WITHIN_S = 60.0, 60.0, 120.0
#: Longer than any test takes: nothing behind a poison record may lapse.
WINDOW_S, HOLD_S = 1_800.0, 900.0


@dataclass(frozen=True)
class Poison:
    """A record that nobody decodes, and where it stands."""

    service: str
    inbox: TopicSpec
    partition: int
    offset: int

    @property
    def noticed(self) -> str:
        """What the service says of it."""
        return f"partition {self.partition} is quarantined"


def in_partition(partition: int) -> tuple[str, str]:
    """Customer and request id of an order that opens a group in a partition."""
    while True:
        customer, request = f"c-{uuid4().hex[:8]}", str(uuid4())
        if partition_of(group_id(customer, request), PARTITIONS) == partition:
            return customer, request


async def poisoned(kafka: str, service: str, inbox: TopicSpec, partition: int) -> Poison:
    """Appends one."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        key = group_id(*in_partition(partition)).encode()
        written = await producer.send_and_wait(inbox.name, VALUE, key=key, partition=partition)
        return Poison(service, inbox, partition, written.offset)
    finally:
        await producer.stop()


class _Play:
    def __init__(self, stack: Stack, running: RunningStack) -> None:
        self._stack = stack
        self._shop = Shop(running)
        self._campaign = ""
        self.tally = Tally()

    def pairs(self, partition: int) -> list[pb.Order]:
        """Orders that fill groups of two, safe in the log and no more."""
        orders = []
        for _ in range(PAIRS):
            customer, request = in_partition(partition)
            leader = self._shop.place(self._campaign, customer=customer, request_id=request, wait=pb.WAIT_ACCEPTED)
            orders += [leader, self._shop.place(self._campaign, leader.group, wait=pb.WAIT_ACCEPTED)]
        return orders

    def settled(self, orders: Sequence[pb.Order]) -> None:
        """Waits until all of them are."""
        self._shop.wait_all(orders, "SETTLED", seconds=SETTLED_WITHIN_S)

    def said(self, poison: Poison, times: int = 1) -> None:
        """Waits until the service has said so often that it stopped the partition."""
        what = f"{poison.service} does not say that {poison.noticed}"
        _until(lambda: self._stack.log(poison.service).count(poison.noticed) >= times, QUARANTINED_WITHIN_S, what)

    def run(self) -> dict[str, float]:
        """All of it; returns how long it took from the skips until all was settled."""
        self._campaign = self._shop.campaign(capacity=2, tiers=((2, 8_900),), window_s=WINDOW_S, hold_s=HOLD_S)
        self.settled([order for partition in range(PARTITIONS) for order in self.pairs(partition)])
        kafka = self._stack.kafka
        poisons = [
            asyncio.run(poisoned(kafka, "groups", GROUP_INBOX, 0)),
            asyncio.run(poisoned(kafka, "payments", PAYMENT_INBOX, 1)),
        ]
        for poison in poisons:
            self.said(poison)
        without_seat, without_money = self.pairs(0), self.pairs(1)
        self.settled([*self.pairs(2), *self.pairs(3)])
        for poison in poisons:
            self._stack.kill(poison.service, restart=False)
            self._stack.start_service(poison.service)
        for poison in poisons:
            self._stack.wait_serving(poison.service)
            self.said(poison, times=2)
        self.settled([*self.pairs(2), *self.pairs(3)])
        self._untouched(without_seat, "PLACED")
        self._untouched(without_money, "RESERVED")
        skipped = time.monotonic()
        for poison in poisons:
            _skip(kafka, poison)
        self.settled([*without_seat, *without_money])
        resumed_s = time.monotonic() - skipped
        self.settled([order for partition in range(PARTITIONS) for order in self.pairs(partition)])
        self.tally.acknowledged = set(self._shop.placed)
        return {"resumed_s": round(resumed_s, 1), "poisons": len(poisons), "kills": len(poisons)}

    def _untouched(self, orders: Sequence[pb.Order], wanted: str) -> None:
        found = {state(self._shop.get(order)) for order in orders}
        assert not found & FINAL, f"orders behind a poison record are {found}"
        assert found == {wanted}, f"orders behind a poison record are {found}, not {wanted}"


def _skip(kafka: str, poison: Poison) -> None:
    """The recorded way out, as an operator takes it."""
    place = (poison.inbox.name, str(poison.partition), str(poison.offset))
    command = (sys.executable, "-m", "ops.main", "skip", *place, "--reason", "planted", "--kafka", kafka)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _until(check: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, what
        time.sleep(0.1)


async def _judged(stack: Stack, tally: Tally) -> Found:
    await wait_quiet(stack.kafka, deadline_s=SETTLED_WITHIN_S)
    return await verdict(stack, tally)


def part(seconds: float, seed: int) -> Found:
    """The poison part of `make chaos`, on a system of its own; it takes the time that it takes."""
    with tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory, Stack(Path(directory) / "run") as stack:
        running = RunningStack(stack)
        try:
            play = _Play(stack, running)
            took = play.run()
            found, good = asyncio.run(in_time(_judged(stack, play.tally)))
        finally:
            running.close()
        return {**found, **took}, good and took["resumed_s"] <= RESUMED_WITHIN_S
