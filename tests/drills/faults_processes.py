"""Faults of processes and of the broker: killed, frozen, stuck, out of files, overloaded."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import grpc
from groupbuy.orders.v1 import orders_pb2 as pb
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub

from devstack.supervision.waiting import wait_for
from tests.drills.drill import Variables, drill
from tests.drills.site import MAX_CALLS, Site


@drill("GroupbuyProcessRestarts", ends_within_s=100.0, ends_later=True)
def orders_killed_three_times(site: Site) -> Iterator[Variables]:
    """SIGKILL to orders, three times within a scaled hour. Nothing has to be healed."""
    for _ in range(3):
        pid = site.stack.pid("orders")
        site.stack.kill("orders")
        assert wait_for(lambda pid=pid: site.stack.pid("orders") not in {None, pid}, timeout_s=20)  # type: ignore[misc]
        site.stack.wait_serving("orders")
    yield {}


@drill(
    "GroupbuyReplicaDown",
    "GroupbuyServiceGone",
    "GroupbuyConsumerBehind",
    "GroupbuyConsumerStuck",
    "GroupbuyConsumerWithoutMember",
)
def payments_frozen(site: Site) -> Iterator[Variables]:
    """SIGSTOP to payments, longer than its session of 10 s, while orders arrive."""
    site.stack.freeze("payments")
    try:
        yield {"INSTANCE": site.metrics("payments")}
    finally:
        site.stack.thaw("payments")


@drill("GroupbuyRpcErrorBudgetBurn", "GroupbuySlowCalls", "GroupbuyExit70", fires_within_s=75.0, ends_within_s=90.0)
def groups_stuck(site: Site) -> Iterator[Variables]:
    """The event loop of groups is stuck. After 30 s the watchdog ends the process with code 70, which heals it."""
    pid = site.stack.pid("groups")
    assert pid is not None
    os.kill(pid, signal.SIGUSR1)
    yield {}
    site.stack.wait_serving("groups")


@drill("GroupbuyEventLoopLate")
def orders_without_processor_time(site: Site) -> Iterator[Variables]:
    """SIGSTOP to orders for 0.6 s of every second, as a neighbour that takes its processor."""
    over = threading.Event()

    def pulses() -> None:
        while not over.is_set():
            site.stack.freeze("orders")
            over.wait(0.6)
            site.stack.thaw("orders")
            over.wait(0.4)

    thread = threading.Thread(target=pulses)
    thread.start()
    try:
        yield {}
    finally:
        over.set()
        thread.join()


@drill("GroupbuyFileDescriptorsLow")
def orders_near_its_limit_of_files(site: Site) -> Iterator[Variables]:
    """The limit of open files of orders is lowered to a little more than it has open."""
    pid = site.stack.pid("orders")
    assert pid is not None
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only the count
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + used // 10, before[1]))
    try:
        yield {}
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@drill("GroupbuyOverloaded")
def orders_overloaded(site: Site) -> Iterator[Variables]:
    """More calls wait for a group that stays open than orders has slots; further ones are refused."""
    campaign = site.shop.campaign(capacity=100, tiers=((100, 8_900),), window_s=60.0, hold_s=30.0)
    group = site.shop.place(campaign).group
    stub = OrderServiceStub(site.running.orders)
    over = threading.Event()

    def wait_final() -> None:
        while not over.is_set():
            try:
                stub.PlaceOrder(site.shop.request(campaign, group, wait=pb.WAIT_FINAL), timeout=8.0)
            except grpc.RpcError:
                over.wait(0.3)

    threads = [threading.Thread(target=wait_final) for _ in range(MAX_CALLS)]
    for thread in threads:
        thread.start()
    try:
        yield {}
    finally:
        over.set()
        for thread in threads:
            thread.join()
        site.shop.cancel_open_groups(campaign)


@drill(
    "GroupbuyNoLease",
    "GroupbuyTimersLate",
    "GroupbuyNotServing",
    fires_within_s=60.0,
    ends_within_s=90.0,
)
def broker_frozen(site: Site) -> Iterator[Variables]:
    """SIGSTOP to the broker: no heartbeat, tick or decision is acknowledged. A group's deadline passes meanwhile."""
    campaign = site.shop.campaign(capacity=2, tiers=((2, 8_900),), window_s=5.0, hold_s=3.0)
    site.shop.wait(site.shop.place(campaign), "RESERVED")
    site.stack.freeze("broker")
    try:
        yield {"INSTANCE": site.metrics("groups")}
    finally:
        site.stack.thaw("broker")


@drill("GroupbuyCheckpointOld", fires_within_s=75.0)
def disk_stuck(site: Site) -> Iterator[Variables]:
    """The disk of groups takes no checkpoint. A file system that hangs needs another kernel: the fault is planted."""
    pid = site.stack.pid("groups")
    assert pid is not None
    os.kill(pid, signal.SIGUSR2)
    try:
        yield {"INSTANCE": site.metrics("groups")}
    finally:
        os.kill(pid, signal.SIGUSR2)


@drill("GroupbuyRecoverySlow", ends_within_s=90.0)
def broker_frozen_during_a_recovery(site: Site) -> Iterator[Variables]:
    """SIGKILL to groups, and SIGSTOP to the broker once groups has its partitions and has not recovered them."""
    for _ in range(8):
        site.stack.kill("groups")
        if _freeze_in_recovery(site):
            break
        site.stack.thaw("broker")
        site.stack.wait_serving("groups")
    try:
        yield {"INSTANCE": site.metrics("groups")}
    finally:
        site.stack.thaw("broker")
        site.stack.wait_serving("groups")


def _freeze_in_recovery(site: Site) -> bool:
    """Freezes the broker when groups recovers. Returns whether it was in time."""
    deadline_s = time.monotonic() + 20
    while not _recovering(site):
        if time.monotonic() > deadline_s:
            return False
    site.stack.freeze("broker")
    return wait_for(lambda: (_recovering(site) or 0.0) > 1.0, timeout_s=3)


def _recovering(site: Site) -> float | None:
    """Seconds for which groups recovers; None while it serves no metrics."""
    try:
        with urllib.request.urlopen(f"http://{site.metrics('groups')}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    return max((float(one.split()[-1]) for one in lines if one.startswith("groupbuy_recovering_seconds{")), default=0.0)


@drill("GroupbuyWatchDown")
def watch_stopped(site: Site) -> Iterator[Variables]:
    """Watch is stopped."""
    site.watch.stop()
    try:
        yield {}
    finally:
        site.watch.start()


@drill("GroupbuyWatchStalled")
def workers_of_watch_frozen(site: Site) -> Iterator[Variables]:
    """SIGSTOP to the workers of watch; the process that serves its metrics goes on."""
    site.watch.signal_workers(signal.SIGSTOP)
    try:
        yield {}
    finally:
        site.watch.signal_workers(signal.SIGCONT)
