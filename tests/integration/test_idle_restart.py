"""A deadline is met without calls, by a process that has just got the partition in any way.

Two of five members join, the deciders are replaced, and then no call reaches any service. The logs alone must show that
the group ended and the money followed soon after the deadline. With one partition, no traffic of other groups moves the
time.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from devstack.stack import Stack
from eventlog.processors.base import SESSION_S
from groupbuy_testing.running import RunningStack
from shared_kernel import topics
from tests.chaos.kernel.refold import read
from tests.integration.shop import Shop, pause

WINDOW_S = 15.0
#: Seconds after the deadline: timers are checked each half second, then come a few hops, on a busy machine.
SOON_S = 20.0
DECIDERS = ("groups", "payments")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("idle"), partitions=1) as made:
        yield made


@pytest.fixture
def shop(stack: Stack) -> Iterator[Shop]:
    running = RunningStack(stack)
    yield Shop(running)
    running.close()


def restarted(stack: Stack) -> None:
    """A rolling deployment without traffic."""
    for name in DECIDERS:
        stack.stop_service(name)
    for name in DECIDERS:
        stack.start_service(name)


def killed(stack: Stack) -> None:
    """A crash without traffic."""
    for name in DECIDERS:
        stack.kill(name, restart=False)
    for name in DECIDERS:
        stack.start_service(name)


def killed_and_robbed(stack: Stack) -> None:
    """A new machine: the log, and no state directory."""
    for name in DECIDERS:
        stack.kill(name, restart=False)
        shutil.rmtree(stack.data / "state" / name)
    for name in DECIDERS:
        stack.start_service(name)


def taken_over(stack: Stack) -> None:
    """Idle replicas get the partition when the old owners do not return within their session."""
    for name in DECIDERS:
        stack.kill(name, restart=False)


@pytest.mark.parametrize("comes", [restarted, killed, killed_and_robbed, taken_over])
def test_a_deadline_is_met_by_a_new_owner_without_calls(
    stack: Stack, shop: Shop, comes: Callable[[Stack], None]
) -> None:
    window_s = WINDOW_S
    if comes is taken_over:
        window_s += SESSION_S
        for name in DECIDERS:
            stack.wait_serving(stack.add_replica(name))
    reached = shop.campaign(capacity=5, window_s=window_s, tiers=((2, 8_900), (5, 7_900)))
    missed = shop.campaign(capacity=5, window_s=window_s, tiers=((3, 8_900), (5, 7_900)))
    pair = shop.full_group(reached, 2)
    few = shop.full_group(missed, 2)
    deadline = time.monotonic() + window_s
    shop.wait_all([*pair, *few], "CONFIRMED")
    completed, expired = (orders[0].group.removeprefix("groups/") for orders in (pair, few))
    try:
        comes(stack)
        assert time.monotonic() < deadline, "it was to be over before the deadline"
        events = wait_for_events(
            stack, {completed, expired}, lambda events_of: done(events_of, completed, expired), deadline + SOON_S
        )
    finally:
        for name in DECIDERS:
            if stack.pid(name) is None:
                stack.start_service(name)
            stack.wait_serving(name)
    assert "completed" in events[completed]
    assert events[completed].count("member_settled") == events[completed].count("captured") == 2
    assert "expired" in events[expired]
    assert events[expired].count("payment_released") == 2


def test_a_hold_is_retried_by_a_new_owner_without_calls(stack: Stack, shop: Shop) -> None:
    """The payments' own timers: a failed hold is retried."""
    campaign = shop.campaign(capacity=2, window_s=120.0, hold_s=100.0, tiers=((2, 8_900),))
    leader = shop.place(campaign)
    shop.wait(leader, "CONFIRMED")
    group = leader.group.removeprefix("groups/")
    shop.behave(fail_before_per_mille=1_000)
    try:
        shop.place(campaign, leader.group)
        wait_for_events(stack, {group}, lambda events_of: "call_deferred" in events_of[group], time.monotonic() + 60)
        stack.kill("payments", restart=False)
    finally:
        shop.behave()
    stack.start_service("payments")
    wait_for_events(
        stack, {group}, lambda events_of: events_of[group].count("member_settled") == 2, time.monotonic() + 60
    )


def done(events_of: dict[str, list[str]], completed: str, expired: str) -> bool:
    """Whether both groups have ended, with their money."""
    return events_of[completed].count("member_settled") == 2 and events_of[expired].count("payment_released") == 2


def wait_for_events(
    stack: Stack, groups: set[str], enough: Callable[[dict[str, list[str]]], bool], until: float
) -> dict[str, list[str]]:
    """Waits until the events of some groups in both decision logs satisfy a check, and returns their names."""
    while True:
        found = asyncio.run(_events(stack.kafka, groups))
        if enough(found):
            return found
        assert time.monotonic() < until, found
        pause(0.3)


async def _events(kafka: str, groups: set[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {group: [] for group in groups}
    for topic, decoded in ((topics.GROUP_LOG, GroupDecision), (topics.PAYMENT_LOG, PaymentDecision)):
        versions: set[tuple[str, int]] = set()
        for record in (await read(kafka, topic.name, 1))[0]:
            key = record.key.decode()
            if key in groups:
                decision = decoded.FromString(record.value)
                if (key, decision.version) not in versions:
                    versions.add((key, decision.version))
                    found[key] += [str(event.WhichOneof("body")) for event in decision.events]
    return found
