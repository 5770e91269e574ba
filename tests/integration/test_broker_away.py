"""A broker that is not there: at the start, and for half a minute under load. Nothing acknowledged is lost."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from devstack.kafka.broker import Broker
from devstack.product import PRODUCT, Layout
from devstack.supervision import ports
from devstack.supervision.process import Process
from devstack.supervision.waiting import wait_for
from eventlog.processors.base import SESSION_S
from tests.integration.shop import Shop, pause
from tests.integration.test_once_only import reason_of

AWAY_S = 30.0
DEADLINE_S = 3.0
#: What an answer may be late by on a machine with two busy cores.
SLACK_S = 1.5
#: Calls that were under way when the broker went had been accepted: their seat is what they wait for.
UNDER_WAY_S = DEADLINE_S + SLACK_S


@pytest.fixture
def lone_service(tmp_path: Path) -> Iterator[tuple[Process, str, str]]:
    """The orders service, told of a broker that is not there: the process, its address, and the broker's."""
    port, listen = ports.free_port(), f"127.0.0.1:{ports.free_port()}"
    kafka = f"127.0.0.1:{port}"
    child = PRODUCT.then["orders"](Layout(kafka, tmp_path, {"orders": listen}))
    process = Process(child.argv, log=tmp_path / "orders.log", cwd=tmp_path, environment=child.environment)
    process.start()
    yield process, listen, kafka
    process.stop(grace_s=10)


def test_a_service_waits_for_its_broker_and_says_so(lone_service: tuple[Process, str, str], tmp_path: Path) -> None:
    process, listen, kafka = lone_service
    with grpc.insecure_channel(listen) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def status() -> int:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True)
            return int(answer.status)

        assert wait_for(lambda: process.tail().count("retrying in") >= 3, timeout_s=40), process.tail()
        assert kafka in process.tail()
        assert status() == health_pb2.HealthCheckResponse.NOT_SERVING
        assert process.running
        broker = Broker()
        try:
            broker.start(tmp_path / "kafka", port=int(kafka.rpartition(":")[2]))
            # A broker without the topics is no broker to serve with either.
            assert status() == health_pb2.HealthCheckResponse.NOT_SERVING
            assert PRODUCT.topics is not None
            made = subprocess.run(PRODUCT.topics(kafka, 2), capture_output=True, text=True, timeout=60, check=False)
            assert made.returncode == 0, made.stdout + made.stderr
            serving = wait_for(lambda: status() == health_pb2.HealthCheckResponse.SERVING, timeout_s=40)
            assert serving, process.tail()
            process.stop(grace_s=10)
            assert process.code == 0, process.tail()
        finally:
            broker.release()


class Load:
    """Shoppers who order without pause, each in a thread, and what they were answered."""

    def __init__(self, shop: Shop, campaign: str, shoppers: int) -> None:
        self._shop = shop
        self._campaign = campaign
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._order, daemon=True) for _ in range(shoppers)]
        #: (when asked, when answered) of each call, by status; seconds of the monotonic clock.
        self.answers: list[tuple[float, float, grpc.StatusCode, str]] = []

    def __enter__(self) -> Load:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()

    def _order(self) -> None:
        leader = ""
        while not self._stop.is_set():
            request = self._shop.request(self._campaign, leader)
            asked, reason, code = time.monotonic(), "", grpc.StatusCode.OK
            try:
                order = self._shop.orders.PlaceOrder(request, timeout=DEADLINE_S).order
                self._shop.placed.append((order.group.removeprefix("groups/"), order.name.rsplit("/", 1)[1]))
                leader = "" if leader else order.group
            except grpc.RpcError as error:
                code, leader = error.code(), ""
                reason = "" if code == grpc.StatusCode.DEADLINE_EXCEEDED else reason_of(error)
            self.answers.append((asked, time.monotonic(), code, reason))
            pause(0.02)

    def between(self, first_s: float, last_s: float) -> list[tuple[float, float, grpc.StatusCode, str]]:
        """Calls that were made between two times."""
        return [one for one in list(self.answers) if first_s <= one[0] <= last_s]


def test_a_broker_lost_for_half_a_minute_under_load_loses_nothing(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2, window_s=50, hold_s=48)
    broker = shop.stack.stack.broker
    with Load(shop, campaign, shoppers=4) as load:
        assert wait_for(lambda: len(shop.placed) >= 40, timeout_s=30)
        broker.kill()
        gone = time.monotonic()
        wait_for(lambda: False, timeout_s=AWAY_S)
        broker.restart()
        back = time.monotonic()
        # Orders are accepted again, by themselves and soon.
        before = len(shop.placed)
        assert wait_for(lambda: len(shop.placed) >= before + 40, timeout_s=60), Counter(load.answers[-50:])
    away = load.between(gone + UNDER_WAY_S, gone + AWAY_S - UNDER_WAY_S)
    assert {code for _, _, code, _ in away} == {grpc.StatusCode.UNAVAILABLE}
    # At first the order can't be written; after a session the partitions may be another's, who knows it if it was.
    soon = {reason for asked, _, _, reason in away if asked < gone + SESSION_S - DEADLINE_S}
    assert soon == {"BROKER_UNAVAILABLE"}
    assert {reason for *_, reason in away} <= {"BROKER_UNAVAILABLE", "NOT_READY"}
    slowest = max(answered - asked for asked, answered, _, _ in load.answers)
    assert slowest < DEADLINE_S + SLACK_S
    accepted = [f"groups/{group}/orders/{order}" for group, order in shop.placed]
    assert len(set(accepted)) == len(accepted)
    # All that was acknowledged is there, and every group that was full is charged.
    paired = Counter(group for group, _ in shop.placed)
    full = [name for name, (group, _) in zip(accepted, shop.placed, strict=True) if paired[group] == 2]
    assert full
    for name in full:
        shop.wait(shop.get(name), "SETTLED", seconds=90)
    assert back > gone
    shop.cancel_open_groups(campaign)
