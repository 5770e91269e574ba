"""A broker that is unavailable at the start, or for half a minute under load. No acknowledged order is lost."""

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
#: Seconds by which a response may be late on a machine with two busy cores.
SLACK_S = 1.5
#: Calls in flight when the broker stopped were accepted, and wait for their seat.
UNDER_WAY_S = DEADLINE_S + SLACK_S


@pytest.fixture
def lone_service(tmp_path: Path) -> Iterator[tuple[Process, str, str]]:
    """The orders service with an unavailable broker: the process, its address, and the broker's."""
    port, listen = ports.free_port(), f"127.0.0.1:{ports.free_port()}"
    kafka = f"127.0.0.1:{port}"
    child = PRODUCT.then["orders"](Layout(kafka, tmp_path, {"orders": listen}))
    process = Process(child.argv, log=tmp_path / "orders.log", cwd=tmp_path, environment=child.environment)
    process.start()
    yield process, listen, kafka
    process.stop(grace_s=10)


def test_a_service_waits_for_its_broker_and_logs_it(lone_service: tuple[Process, str, str], tmp_path: Path) -> None:
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
            # Without its topics, the broker does not make the service ready either.
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
    """Shoppers who place orders in a loop, each in a thread, and the responses."""

    def __init__(self, shop: Shop, campaign: str, shoppers: int) -> None:
        self._shop = shop
        self._campaign = campaign
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._order, daemon=True) for _ in range(shoppers)]
        #: (start, end, status, reason) of each call; seconds of the monotonic clock.
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
            started_s, reason, code = time.monotonic(), "", grpc.StatusCode.OK
            try:
                order = self._shop.orders.PlaceOrder(request, timeout=DEADLINE_S).order
                self._shop.placed.append((order.group.removeprefix("groups/"), order.name.rsplit("/", 1)[1]))
                leader = "" if leader else order.group
            except grpc.RpcError as error:
                code, leader = error.code(), ""
                reason = "" if code == grpc.StatusCode.DEADLINE_EXCEEDED else reason_of(error)
            self.answers.append((started_s, time.monotonic(), code, reason))
            pause(0.02)

    def between(self, first_s: float, last_s: float) -> list[tuple[float, float, grpc.StatusCode, str]]:
        """Calls that were started between two times."""
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
        # Orders are accepted again without a restart.
        before = len(shop.placed)
        assert wait_for(lambda: len(shop.placed) >= before + 40, timeout_s=60), Counter(load.answers[-50:])
    away = load.between(gone + UNDER_WAY_S, gone + AWAY_S - UNDER_WAY_S)
    assert {code for _, _, code, _ in away} == {grpc.StatusCode.UNAVAILABLE}
    # At first the order can't be appended. After a session, another owner of the partitions may know it.
    soon = {reason for started_s, _, _, reason in away if started_s < gone + SESSION_S - DEADLINE_S}
    assert soon == {"BROKER_UNAVAILABLE"}
    assert {reason for *_, reason in away} <= {"BROKER_UNAVAILABLE", "NOT_READY"}
    slowest = max(answered - started_s for started_s, answered, _, _ in load.answers)
    assert slowest < DEADLINE_S + SLACK_S
    accepted = [f"groups/{group}/orders/{order}" for group, order in shop.placed]
    assert len(set(accepted)) == len(accepted)
    # Every acknowledged order exists, and every full group is charged.
    paired = Counter(group for group, _ in shop.placed)
    full = [name for name, (group, _) in zip(accepted, shop.placed, strict=True) if paired[group] == 2]
    assert full
    for name in full:
        shop.wait(shop.get(name), "SETTLED", seconds=90)
    assert back > gone
    shop.cancel_open_groups(campaign)
