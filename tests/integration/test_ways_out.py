"""The operator's procedure for each foreign record: find it, verify it, skip or remove it, and continue."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.campaigns_pb2 import Campaign, GetCampaignRequest

from devstack.stack import Stack
from eventlog.core.partitioner import partition_of
from eventlog.records.topic_spec import TopicSpec
from groupbuy_testing.running import RunningStack, System
from ops.audit.run import audit, wait_quiet
from ops.log.reader import Reader
from shared_kernel import log_registry
from shared_kernel.topics import CAMPAIGNS, GROUP_LOG, ORDERS, PAYMENT_LOG, REGISTRY
from tests.integration.shop import CALL_S, Shop, until

#: Seconds. The test starts many short processes, each of which loads Python and its libraries.
pytestmark = pytest.mark.timeout(500)
SERVICES = ("orders", "groups", "payments")
PARTITIONS = 2
FOREIGN = b"\xff\xff foreign \x1b[2J"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Stack(tmp_path / "run", partitions=PARTITIONS) as stack:
        running = RunningStack(stack)
        yield Shop(running)
        running.close()


def run(kafka: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "ops.main", *arguments, "--kafka", kafka)
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def ops(kafka: str, *arguments: str, code: int = 0) -> str:
    done = run(kafka, *arguments)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def findings(kafka: str) -> set[tuple[str, str]]:
    """Topic and kind of all findings of `verify`."""
    output = ops(kafka, "verify", "--json", code=1).splitlines()
    rows = [json.loads(line) for line in output if '"kind"' in line]
    assert all(row["way_out"] for row in rows)
    return {(row["topic"], row["kind"]) for row in rows}


def plant(kafka: str, spec: TopicSpec, value: bytes | None, key: str) -> str:
    """Appends a record to the partition of its key. Returns `TOPIC:PARTITION:OFFSET`."""

    async def run() -> str:
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        try:
            partition = partition_of(key, PARTITIONS)
            done = await producer.send_and_wait(spec.name, value, key=key.encode(), partition=partition)
            return f"{spec.name}:{partition}:{done.offset}"
        finally:
            await producer.stop()

    return asyncio.run(run())


async def decisions(kafka: str, group: str) -> list[bytes]:
    """All decisions of a group."""
    found: list[bytes] = []
    async with Reader(kafka, [GROUP_LOG.name]) as reader:
        await reader.read_to_end(lambda _, some: found.extend(one.value for one in some if one.key == group.encode()))
    return found


def has_logged(stack: System, name: str) -> bool:
    """Whether a service has logged both foreign records."""
    return stack.log(name).count("is ignored") >= 2


def clean(shop: Shop) -> None:
    asyncio.run(wait_quiet(shop.stack.kafka, deadline_s=100))
    report: Any = asyncio.run(
        audit(shop.stack.kafka, shop.stack.endpoints["provider"], settled=True, acknowledged=shop.placed)
    )
    assert report.clean, report.json()
    assert report.books_equal


def restart(stack: System, *names: str) -> None:
    for name in names:
        stack.start_service(name)
    for name in names:
        stack.wait_serving(name, timeout=60)


def test_a_foreign_decision_is_skipped_by_every_reader(shop: Shop) -> None:
    stack, kafka = shop.stack.stack, shop.stack.kafka
    campaign = shop.campaign()
    shop.wait_all([shop.place(campaign, solo=True) for _ in range(4)], "SETTLED")
    assert '"findings": 0' in ops(kafka, "verify")

    for name in SERVICES:
        stack.stop_service(name)
    places = [plant(kafka, spec, FOREIGN, str(uuid4())) for spec in (GROUP_LOG, PAYMENT_LOG)]
    places.append(plant(kafka, GROUP_LOG, None, str(uuid4())))
    places.append(plant(kafka, ORDERS, FOREIGN, str(uuid4())))
    assert findings(kafka) == {
        (GROUP_LOG.name, "undecodable"),
        (PAYMENT_LOG.name, "undecodable"),
        (GROUP_LOG.name, "no value"),
        (ORDERS.name, "undecodable"),
    }
    ops(kafka, "replay", code=1)
    for place in places:
        at = place.split(":")
        assert "nothing recorded" in ops(kafka, "skip", *at, "--reason", "planted", "--dry-run")
        ops(kafka, "skip", *at, "--reason", "planted by a test")
    output = ops(kafka, "verify")
    assert f'"skipped": {len(places)}' in output
    # A valid record can't be skipped.
    assert "this build can process the record" in ops(kafka, "skip", GROUP_LOG.name, "0", "0", "--reason", "no", code=1)

    restart(stack, *SERVICES)
    shop.wait_all([shop.place(campaign, solo=True) for _ in range(4)], "SETTLED")
    for name in SERVICES:
        assert "is skipped, as an operator has recorded" in stack.log(name)
    clean(shop)
    ops(kafka, "replay")
    ops(kafka, "ledger", "balances")


def test_a_decision_that_forks_a_group_is_removed_from_its_log(shop: Shop) -> None:
    stack, kafka = shop.stack.stack, shop.stack.kafka
    campaign = shop.campaign(window_s=600.0, hold_s=300.0, capacity=3, tiers=[(3, 6_900)])
    leader = shop.place(campaign)
    shop.wait(leader, "CONFIRMED")
    for name in SERVICES:
        stack.stop_service(name)
    group = leader.group.removeprefix("groups/")
    # Decodable, and the next of its chain: readers can't distinguish it from the decision that it replaces.
    last = asyncio.run(decisions(kafka, group))[-1]
    forged = g.GroupDecision(
        group=group,
        version=g.GroupDecision.FromString(last).version + 1,
        previous_sha256=sha256(last).digest(),
        cause=0,
        events=[g.GroupEvent(cancelled=g.GroupCancelled(reason="forged"))],
    )
    place = plant(kafka, GROUP_LOG, forged.SerializeToString(), group)
    assert (GROUP_LOG.name, "order") in findings(kafka)
    at = place.split(":")
    before = ops(kafka, "tail", GROUP_LOG.name, "--from-beginning", "--no-follow").count("\n")
    rebuild = ("topics", "rebuild", "--without", place, "--reason", "forged by a test")
    # Groups of static members are empty once their sessions have ended.
    until(lambda: "would be removed" in run(kafka, *rebuild, "--dry-run").stdout)
    ops(kafka, *rebuild)
    # Again: no change.
    ops(kafka, *rebuild)
    assert ops(kafka, "tail", GROUP_LOG.name, "--from-beginning", "--no-follow").count("\n") == before
    assert '"findings": 0' in ops(kafka, "verify")
    skipped = {one[:3] for one in asyncio.run(log_registry.read(kafka)).skipped}
    assert skipped == {(at[0], int(at[1]), int(at[2]))}

    restart(stack, *SERVICES)
    friends = [shop.place(campaign, leader.group) for _ in range(2)]
    shop.wait_all([leader, *friends], "SETTLED", seconds=60)
    clean(shop)
    ops(kafka, "replay")


def test_a_removed_or_replaced_campaign_is_restored(shop: Shop) -> None:
    stack, kafka = shop.stack.stack, shop.stack.kafka
    campaign = shop.campaign()
    key = campaign.removeprefix("campaigns/")
    shop.wait(shop.place(campaign, solo=True), "SETTLED")
    cheap = Campaign(name="campaigns/other", capacity=2, solo_price_minor=1, currency="CNY")
    for value in (None, cheap.SerializeToString(), FOREIGN):
        plant(kafka, CAMPAIGNS, value, key)
    plant(kafka, REGISTRY, FOREIGN, "declared")

    # The campaign is unchanged, and every service has logged the records.
    for name in ("groups", "orders"):
        until(partial(has_logged, stack, name))
    found = shop.campaigns.GetCampaign(GetCampaignRequest(name=campaign), timeout=CALL_S)
    assert found.solo_price_minor == 9_900
    shop.wait(shop.place(campaign, solo=True), "SETTLED")
    output = ops(kafka, "topics", "check", code=1)
    for kind in ("no value", "foreign name", "undecodable"):
        assert kind in output
    assert {(topic, kind) for topic, kind in findings(kafka) if topic == CAMPAIGNS.name} == {
        (CAMPAIGNS.name, "no value"),
        (CAMPAIGNS.name, "foreign name"),
        (CAMPAIGNS.name, "undecodable"),
    }
    # An invalid entry of the registry does not prevent a start.
    stack.kill("groups")
    stack.wait_serving("groups")

    assert "nothing written" in ops(kafka, "campaigns", "restore", campaign, "--dry-run")
    assert "written again" in ops(kafka, "campaigns", "restore", campaign)
    assert "nothing to restore" in ops(kafka, "campaigns", "restore", campaign)
    output = ops(kafka, "topics", "check", code=1)
    assert CAMPAIGNS.name not in output
    assert REGISTRY.name in output
    shop.wait(shop.place(campaign, solo=True), "SETTLED")
    clean(shop)
