"""The ACLs on a real broker: every principal × topic × operation, and every principal × consumer group.

The expected table is written out here from ARCHITECTURE.md, and not derived from the grants.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from aiokafka.protocol.admin import DeleteGroupsRequest

from devstack.certificates.credentials import Credentials
from devstack.kafka.broker import Broker
from eventlog.broker.security import Cluster, KafkaSecurity, client
from eventlog.records.topic_spec import TopicSpec
from shared_kernel.topics import ALL

pytestmark = pytest.mark.timeout(300)

SERVICES = ("orders", "groups", "payments", "inventory")
TEMPORARY = ("redrive", "provision")
PRINCIPALS = (*SERVICES, "ops", "reader", *TEMPORARY)
TOPICS = [spec.name for spec in ALL]
#: A consumer group of another system.
OUTSIDE = "reader.finance"
OURS = {reader for spec in ALL for reader in spec.readers} | {"groupbuy.ops.redrive", "groupbuy.other"}
GROUPS = sorted(OURS | {OUTSIDE})
OUTCOMES = "orders.outcome.v1"
INBOXES, LOGS = ("groups.inbox.v1", "payments.inbox.v1"), ("groups.group.v1", "payments.payment.v1")
DLQ = [name for name in TOPICS if name.endswith(".dlq")]
REGISTRY = "groupbuy.registry.v1"
INVENTORY_LOGS = ("inventory.stock.v1", "inventory.allowance.v1")
OFFERS = "inventory.offer.v1"
INVENTORY = {*INVENTORY_LOGS, OFFERS, "inventory.stock-inbox.v1", "inventory.allowance-inbox.v1"}
#: Topics with dead letters, the only ones that a redrive writes to.
SOURCES = {"orders.order.v1", *LOGS, *INVENTORY_LOGS}

WRITES = {
    "orders": {"orders.order.v1", OUTCOMES, *(name for name in DLQ if name.endswith(".orders.dlq"))},
    "groups": {
        "groups.campaign.v1",
        "groups.inbox.v1",
        "groups.group.v1",
        *(name for name in DLQ if name.endswith(".groups.dlq")),
    },
    "payments": {
        "payments.inbox.v1",
        "payments.payment.v1",
        *(name for name in DLQ if name.endswith(".payments.dlq")),
    },
    "inventory": {*INVENTORY, *(name for name in DLQ if name.endswith(".inventory.dlq"))},
    "ops": {REGISTRY},
    "reader": set(),
    "redrive": {*SOURCES, REGISTRY},
    "provision": {REGISTRY},
}
READS = {
    "orders": {"orders.order.v1", OUTCOMES, "groups.campaign.v1", OFFERS, *LOGS, REGISTRY},
    "groups": {"orders.order.v1", "groups.campaign.v1", "groups.inbox.v1", *LOGS, *INVENTORY_LOGS, REGISTRY},
    "payments": {"payments.inbox.v1", *LOGS, REGISTRY},
    "inventory": {*INVENTORY, "groups.group.v1", REGISTRY},
    "ops": set(TOPICS),
    "reader": {OUTCOMES},
    "redrive": {*DLQ, *SOURCES, REGISTRY},
    "provision": set(TOPICS),
}
COMMITS = {name: {group for group in GROUPS if group.startswith(f"groupbuy.{name}.")} for name in SERVICES}
COMMITS |= {"ops": set(), "reader": {OUTSIDE}, "redrive": set(), "provision": OURS}


#: Seconds after which a request that the client retries for ever counts as refused.
REFUSED_S = 8.0


class World:
    """A secured broker with all topics, one record in each, and no service."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self.address = address
        self.credentials = credentials

    def user(self, name: str) -> dict[str, Any]:
        kafka = self.credentials.kafka
        security = KafkaSecurity("SCRAM-SHA-512", name, kafka.passwords[name], kafka.issued.ca)
        return client(Cluster(self.address, security))

    def ops(self, name: str, *arguments: str) -> str:
        environment = {"PATH": os.environ["PATH"], **self.credentials.environment(name)}
        command = (sys.executable, "-m", "ops.main", *arguments, "--kafka", self.address)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("acls")
    credentials = Credentials(directory / "credentials")
    broker = Broker()
    broker.start(directory / "kafka", secured=credentials.kafka)
    try:
        made = World(broker.bootstrap, credentials)
        # As documented: `provision` creates the topics, with rights for that time only.
        made.ops("admin", "acls", "apply", "--provision")
        made.ops("provision", "topics", "create", "--partitions", "1", "--replication", "1")
        made.ops("admin", "acls", "apply")
        made.ops("ops", "acls", "check")
        made.ops("ops", "topics", "check")
        asyncio.run(fill(made))
        yield made
    finally:
        broker.release()


async def fill(world: World) -> None:
    producer = AIOKafkaProducer(**world.user("admin"))
    await producer.start()
    try:
        for topic in TOPICS:
            if topic != REGISTRY:
                await producer.send_and_wait(topic, b"x", key=b"k", partition=0)
    finally:
        await producer.stop()


@pytest.fixture(scope="module", params=[False, True], ids=["at rest", "while granted"])
def granted(request: pytest.FixtureRequest, world: World) -> Iterator[bool]:
    """Whether the principals with temporary rights have them."""
    if request.param:
        world.ops("admin", "acls", "apply", "--redrive", "--provision")
    yield request.param
    world.ops("admin", "acls", "apply")


def may(table: dict[str, set[str]], name: str, granted: bool) -> set[str]:
    return set() if name in TEMPORARY and not granted else table[name]


@asynccontextmanager
async def admin_of(world: World, name: str) -> AsyncIterator[Any]:
    admin: Any = AIOKafkaAdminClient(**world.user(name))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def written(world: World, name: str) -> set[str]:
    found = set()
    producer = AIOKafkaProducer(**world.user(name), acks="all")
    await producer.start()
    try:
        for topic in TOPICS:
            try:
                await producer.send_and_wait(topic, b"x", key=b"k", partition=0)
            except TopicAuthorizationFailedError:
                continue
            found.add(topic)
    finally:
        await producer.stop()
    return found


async def read(world: World, name: str) -> set[str]:
    async def one(topic: str) -> str:
        consumer = AIOKafkaConsumer(**world.user(name), enable_auto_commit=False)
        await consumer.start()
        try:
            tp = TopicPartition(topic, 0)
            consumer.assign([tp])
            consumer.seek(tp, 0)
            # The client retries for ever for a topic that it may not describe.
            async with asyncio.timeout(REFUSED_S):
                while not (await consumer.getmany(tp, timeout_ms=500)).get(tp):
                    pass
        except (TopicAuthorizationFailedError, TimeoutError):
            return ""
        finally:
            await consumer.stop()
        return topic

    return set(await asyncio.gather(*map(one, TOPICS))) - {""}


@pytest.mark.parametrize("name", PRINCIPALS)
async def test_only_authorized_principals_write_and_read_topics(world: World, name: str, granted: bool) -> None:
    assert await read(world, name) == may(READS, name, granted)
    assert await written(world, name) == may(WRITES, name, granted)


@pytest.mark.parametrize("name", PRINCIPALS)
async def test_no_principal_deletes_alters_or_creates_topics(world: World, name: str, granted: bool) -> None:
    async with admin_of(world, name) as admin:
        deleted = await admin.delete_topics(TOPICS)
        assert {code for _, code in deleted.topic_error_codes} == {TopicAuthorizationFailedError.errno}
        resources = [ConfigResource(ConfigResourceType.TOPIC, one, {"retention.ms": "1"}) for one in TOPICS]
        codes = {row[0] for response in await admin.alter_configs(resources) for row in response.resources}
        assert codes == {TopicAuthorizationFailedError.errno}
        foreign = [NewTopic("groups.other.v1", 1, 1)]
        (row,) = (await admin.create_topics(foreign)).topic_errors
        assert row[1] == TopicAuthorizationFailedError.errno


@pytest.mark.parametrize("name", PRINCIPALS)
async def test_offsets_are_committed_by_a_groups_service_alone(world: World, name: str, granted: bool) -> None:
    async def one(group: str) -> str:
        mine = [spec for spec in ALL if group in spec.readers or (group == OUTSIDE and spec.public)]
        spec: TopicSpec = mine[0] if mine else ALL[0]
        consumer = AIOKafkaConsumer(**world.user(name), group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            tp = TopicPartition(spec.name, 0)
            consumer.assign([tp])
            async with asyncio.timeout(REFUSED_S):
                await consumer.commit({tp: 0})
        except (GroupAuthorizationFailedError, TopicAuthorizationFailedError, TimeoutError):
            return ""
        finally:
            await consumer.stop()
        return group

    committed = set(await asyncio.gather(*map(one, GROUPS))) - {""}
    assert committed == may(COMMITS, name, granted)


@pytest.mark.parametrize("name", PRINCIPALS)
async def test_no_principal_joins_another_services_group_or_deletes_one(world: World, name: str, granted: bool) -> None:
    async def one(group: str) -> None:
        consumer = AIOKafkaConsumer("orders.order.v1", **world.user(name), group_id=group)
        try:
            with pytest.raises((GroupAuthorizationFailedError, TopicAuthorizationFailedError, TimeoutError)):
                async with asyncio.timeout(REFUSED_S):
                    await consumer.start()
                    await consumer.getone()
        finally:
            await consumer.stop()

    others = [group for group in GROUPS if group not in may(COMMITS, name, granted)]
    await asyncio.gather(*map(one, others))
    async with admin_of(world, name) as admin:
        node = admin._client.get_random_node()
        deleted = await admin._send_request_to_node(node, DeleteGroupsRequest(GROUPS))
        assert {code for _, code in deleted.results} == {GroupAuthorizationFailedError.errno}


async def test_the_command_line_sees_offsets_and_members_and_changes_none(world: World) -> None:
    async with admin_of(world, "ops") as admin:
        for group in OURS:
            await admin.list_consumer_group_offsets(group)
            ((*_, code),) = [(row[1], row[0]) for row in (await admin.describe_consumer_groups([group]))[0].groups]
            assert code == 0
    output = world.ops("ops", "offsets", "recover", "--dry-run")
    assert "committed" in output or "every group has its offsets" in output


def test_redriving_and_recovering_work_with_their_own_rights_alone(world: World) -> None:
    world.ops("admin", "acls", "apply", "--redrive", "--provision")
    try:
        assert "0 records redriven" in run_any(world, "redrive", "dlq", "redrive", "orders.order.v1")
        assert "offset" in run_any(world, "provision", "offsets", "recover")
    finally:
        world.ops("admin", "acls", "apply")
    refused = run_any(world, "ops", "dlq", "redrive", "orders.order.v1", "--again")
    assert "0 records redriven" in refused


def run_any(world: World, name: str, *arguments: str) -> str:
    """The output of a command with any exit code."""
    environment = {"PATH": os.environ["PATH"], **world.credentials.environment(name)}
    command = (sys.executable, "-m", "ops.main", *arguments, "--kafka", world.address)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
