"""The local broker: it serves, keeps its data over SIGKILL and restarts, and leaves no process or file behind."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from devstack.errors import BrokerFailed
from devstack.kafka.broker import Broker
from devstack.kafka.probe import answers
from devstack.supervision import ports
from devstack.supervision.waiting import wait_for

TOPIC = "notes"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for all tests that do not stop it."""
    started = Broker()
    started.start(tmp_path_factory.mktemp("kafka"))
    yield started
    started.release()


async def make_topic(kafka: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    finally:
        await admin.close()


async def write(kafka: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(TOPIC, value)
    finally:
        await producer.stop()


async def read(kafka: str, count: int, group: str | None = None) -> list[bytes]:
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=kafka, group_id=group, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_acknowledged_records_survive_sigkill_and_restarts_on_the_same_address(broker: Broker) -> None:
    kafka = broker.bootstrap
    await make_topic(kafka)
    await write(kafka, [b"one", b"two"])
    assert await read(kafka, 2, group="readers") == [b"one", b"two"]

    await asyncio.to_thread(broker.kill)
    assert not answers(kafka)
    await asyncio.to_thread(broker.restart)
    assert broker.bootstrap == kafka
    await write(kafka, [b"three"])
    assert await read(kafka, 3) == [b"one", b"two", b"three"]

    await asyncio.to_thread(broker.restart)
    # The group's committed offset was kept too.
    assert await read(kafka, 1, group="readers") == [b"three"]


def test_another_broker_can_continue_from_the_same_directory_on_other_ports(tmp_path: Path) -> None:
    addresses = []
    for _ in range(2):
        broker = Broker()
        try:
            broker.start(tmp_path / "kafka")
            addresses.append(broker.bootstrap)
            if len(addresses) == 1:
                asyncio.run(make_topic(broker.bootstrap))
                asyncio.run(write(broker.bootstrap, [b"kept"]))
            else:
                assert asyncio.run(read(broker.bootstrap, 1)) == [b"kept"]
        finally:
            broker.release()
    assert addresses[0] != addresses[1]


def test_stopping_leaves_no_process_and_no_half_made_directory(tmp_path: Path) -> None:
    broker = Broker()
    broker.start(tmp_path / "kafka")
    pid = broker.process.pid
    assert pid is not None
    broker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not answers(broker.bootstrap)
    assert {path.name for path in (tmp_path / "kafka").iterdir()} == {"data", "server.properties", "broker.log"}


def test_a_port_that_is_taken_meanwhile_is_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = ports.free_port
    with socket.create_server(("127.0.0.1", 0)) as rude:
        taken = rude.getsockname()[1]
        offered = iter([taken])
        monkeypatch.setattr(ports, "free_port", lambda: next(offered, None) or choose())
        broker = Broker()
        try:
            broker.start(tmp_path)
            assert broker.port != taken
            assert answers(broker.bootstrap)
        finally:
            broker.release()


def test_a_broker_that_can_not_start_logs_the_reason(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=x\n")
    with pytest.raises(BrokerFailed, match=r"(?s)the broker ended with code 1:.*node.id"):
        Broker().start(tmp_path)


def test_an_address_where_a_broker_answers_already_is_refused(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(BrokerFailed, match=f"port {broker.port} is taken"):
        Broker().start(tmp_path / "second", port=broker.port)


def test_a_frozen_broker_does_not_answer_until_it_is_thawed(broker: Broker) -> None:
    broker.process.freeze()
    assert not answers(broker.bootstrap, timeout_s=0.5)
    broker.process.thaw()
    assert wait_for(lambda: answers(broker.bootstrap), timeout_s=20)
