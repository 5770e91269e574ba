"""bench-reads: recovery times and memory of services with many settled orders in their state.

history.py writes the logs. Then the real services start, fold the logs and write their state. Each service is killed
several times; a recovery ends when the service has answered a read of every partition. Then a second replica of orders
joins and is killed. The benchmark runs twice, first with a tenth of the orders, because memory must not grow with their
number. Prints one JSON object as its last line, and exits with 1 if a target is missed. `--check` also audits and
replays the logs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
from groupbuy.groups.v1.groups_pb2 import GROUP_STATE_COMPLETED, GetGroupRequest
from groupbuy.groups.v1.groups_pb2_grpc import GroupServiceStub
from groupbuy.orders.v1.orders_pb2 import ORDER_STATE_SETTLED, GetOrderRequest
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub
from groupbuy.payments.v1.payments_pb2 import PAYMENT_STATE_CAPTURED, GetPaymentRequest
from groupbuy.payments.v1.payments_pb2_grpc import PaymentServiceStub

from bench.command import ROOT, conclude
from bench.reads import history
from bench.reads.services import FIRST_START_S, SECOND_REPLICA, Services
from chassis.rpc.client_config import channel_options
from devstack.kafka.broker import Broker
from devstack.product import PRODUCT, PROVIDER, SERVICES
from devstack.supervision.waiting import wait_for
from eventlog.core.partitioner import partition_of
from eventlog.processors.base import SESSION_S

Found = dict[str, Any]
Read = Callable[[grpc.Channel, int, float], bool]

WANTED_S, WANTED_MB = 5.0, 400
#: Highest ratio of the memory to that with a tenth of the orders.
TOLERANCE = 1.1
START_S = 180.0
CALL_S = 10.0
#: Seconds between two calls for one partition.
PROBE_INTERVAL_S = 0.02
#: Seconds of probing after the session of a killed replica has expired.
CALM_S = 4.0
WRITERS = ((0, 2), (1, 3))
# The time without an answer is measured: a longer back-off would add to it.
_OPTIONS = channel_options.options(max_backoff_ms=50, own_connection=True)


def samples(groups: int) -> list[int]:
    """One group of each partition, at or after a fifth of all groups, so that most were folded after it."""
    found: dict[int, int] = {}
    for index in (*range(groups // 5, groups), *range(groups // 5)):
        partition = partition_of(history.group_of(index), history.PARTITIONS)
        found.setdefault(partition, index)
        if len(found) == history.PARTITIONS:
            return [found[one] for one in range(history.PARTITIONS)]
    raise SystemExit(f"{groups} groups leave a partition empty: take more orders")


def _order(channel: grpc.Channel, index: int, timeout: float) -> bool:
    name = f"groups/{history.group_of(index)}/orders/{history.order_of(index, 1)}"
    found = OrderServiceStub(channel).GetOrder(GetOrderRequest(name=name), timeout=timeout)
    return bool(found.state == ORDER_STATE_SETTLED)


def _group(channel: grpc.Channel, index: int, timeout: float) -> bool:
    name = f"groups/{history.group_of(index)}"
    found = GroupServiceStub(channel).GetGroup(GetGroupRequest(name=name), timeout=timeout)
    return bool(found.state == GROUP_STATE_COMPLETED)


def _payment(channel: grpc.Channel, index: int, timeout: float) -> bool:
    name = f"groups/{history.group_of(index)}/orders/{history.order_of(index, 1)}/payment"
    found = PaymentServiceStub(channel).GetPayment(GetPaymentRequest(name=name), timeout=timeout)
    return bool(found.state == PAYMENT_STATE_CAPTURED)


READS: Mapping[str, Read] = {"orders": _order, "groups": _group, "payments": _payment}
_TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


def answered(read: Read, channel: grpc.Channel, index: int, timeout: float = CALL_S) -> bool:
    """Whether a call is answered. A wrong answer ends the program, since it means lost state."""
    try:
        right = read(channel, index, timeout)
    except grpc.RpcError as error:
        if error.code() in _TRANSIENT:
            return False
        raise SystemExit(f"group {index}: {error.code().name} {error.details()}") from error
    if not right:
        raise SystemExit(f"group {index} is not settled")
    return True


def longest_gap(times: Sequence[float], begun: float, ended: float) -> float:
    """Longest time without an answer, given the times of the answers."""
    marks = [begun, *(one for one in times if begun < one < ended), ended]
    return max(after - before for before, after in pairwise(marks))


class Prober:
    """Reads from every partition of one service continuously, and records the times of the answers."""

    def __init__(self, endpoint: str, indexes: Sequence[int]) -> None:
        self._over = threading.Event()
        self._channel = grpc.insecure_channel(endpoint, options=_OPTIONS)
        self.times: list[list[float]] = [[] for _ in indexes]
        self._pool = ThreadPoolExecutor(len(indexes))
        self._probes = [self._pool.submit(self._probe, *one) for one in zip(indexes, self.times, strict=True)]

    def _probe(self, index: int, times: list[float]) -> None:
        while not self._over.wait(PROBE_INTERVAL_S):
            if answered(_order, self._channel, index):
                times.append(time.monotonic())

    def gap(self, begun: float, ended: float) -> float:
        """Longest time without an answer for some partition."""
        return max(longest_gap(list(times), begun, ended) for times in self.times)

    def until_all_answer(self, since: float, *, within_s: float) -> None:
        """Waits until every partition has an answer after `since`."""
        if not wait_for(lambda: all(one and one[-1] > since for one in self.times), timeout_s=within_s):
            raise SystemExit(f"a partition had no answer for {within_s:g} s")

    def close(self) -> None:
        """Ends the probes. Raises the error of a failed one."""
        self._over.set()
        try:
            for one in self._probes:
                one.result()
        finally:
            self._pool.shutdown()
            self._channel.close()


def recovery_s(services: Services, name: str, indexes: Sequence[int]) -> float:
    """Seconds from SIGKILL to an answer for every partition."""
    killed = time.monotonic()
    services.kill(name)
    services.start(name)
    with grpc.insecure_channel(services.endpoints[name], options=_OPTIONS) as channel:

        def first(index: int) -> float:
            while time.monotonic() < killed + START_S:
                if answered(READS[name], channel, index):
                    return time.monotonic() - killed
                time.sleep(PROBE_INTERVAL_S)
            raise SystemExit(f"{name} did not answer within {START_S:g} s of the kill")

        with ThreadPoolExecutor(len(indexes)) as pool:
            return max(pool.map(first, indexes))


def rebalances(services: Services, indexes: Sequence[int]) -> dict[str, float]:
    """Seconds without an answer while a second replica of orders joins, and after it was killed."""
    prober = Prober(services.endpoints["orders"], indexes)
    try:
        prober.until_all_answer(time.monotonic(), within_s=START_S)
        begun = time.monotonic()
        services.start(SECOND_REPLICA)
        services.wait_serving(SECOND_REPLICA, FIRST_START_S)
        services.wait_written(SECOND_REPLICA)
        prober.until_all_answer(time.monotonic(), within_s=START_S)
        joined = prober.gap(begun, time.monotonic())
        killed = time.monotonic()
        services.kill(SECOND_REPLICA)
        # Its partitions are reassigned when its session has expired.
        time.sleep(SESSION_S + CALM_S)
        prober.until_all_answer(time.monotonic(), within_s=START_S)
        left = prober.gap(killed, time.monotonic())
    finally:
        prober.close()
    return {"join_s": joined, "takeover_s": left}


def write(kafka: str, orders: int) -> float:
    """Writes the logs; returns the duration in seconds."""
    assert PRODUCT.topics is not None
    subprocess.run(PRODUCT.topics(kafka, history.PARTITIONS), check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    asyncio.run(history.write_campaign(kafka))
    begun = time.monotonic()
    jobs = [{"kafka": kafka, "groups": orders // history.SEATS, "partitions": one} for one in WRITERS]
    commands = [(sys.executable, "-m", "bench.reads.history", json.dumps(job)) for job in jobs]
    with ExitStack() as stack:
        writers = [stack.enter_context(_running(command)) for command in commands]
        while any(one.poll() is None for one in writers):
            if any(one.poll() for one in writers):
                break
            time.sleep(0.1)
        if any(one.returncode != 0 for one in writers):
            raise SystemExit("the logs could not be written")
    asyncio.run(history.commit_ends(kafka))
    return time.monotonic() - begun


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def check(kafka: str) -> None:
    """Audits and replays the logs. Ends the program if they are not as the services would have written them."""
    for command in (("audit", "--without-provider", "--settled"), ("replay",)):
        done = subprocess.run((sys.executable, "-m", "ops.main", *command, "--kafka", kafka), cwd=ROOT, check=False)
        if done.returncode:
            raise SystemExit(f"{command[0]} found errors in the logs")


def measure(orders: int, kills: int, *, checked: bool) -> Found:
    """Measures one size, on a broker of its own."""
    directory = Path(tempfile.mkdtemp(prefix="bench-reads-"))
    broker = Broker()
    try:
        broker.start(directory / "kafka")
        written_s = write(broker.bootstrap, orders)
        print(f"{orders:,} orders in {written_s:.0f} s", flush=True)
        if checked:
            check(broker.bootstrap)
        found = _measure_services(Services(broker.bootstrap, directory), samples(orders // history.SEATS), kills)
        return {"orders": orders, "written_s": round(written_s, 1), **found}
    finally:
        broker.release()
        shutil.rmtree(directory, ignore_errors=True)


def _measure_services(services: Services, indexes: Sequence[int], kills: int) -> Found:
    try:
        services.start(PROVIDER)
        first: dict[str, float] = {}
        # One after the other, since a fold uses a whole core.
        for name in SERVICES:
            begun = time.monotonic()
            services.start(name)
            services.wait_serving(name, FIRST_START_S)
            first[name] = round(time.monotonic() - begun, 1)
            print(f"{name} serves after {first[name]:g} s", flush=True)
            services.wait_written(name)
        recover: dict[str, list[float]] = {name: [] for name in SERVICES}
        for number in range(kills):
            for name in SERVICES:
                recover[name].append(recovery_s(services, name, indexes))
                print(f"kill {number + 1}: {name} answers after {recover[name][-1]:.2f} s", flush=True)
        gaps = rebalances(services, indexes)
        print(f"rebalances: {gaps}", flush=True)
    finally:
        services.stop()
    worst = {name: round(max(times), 2) for name, times in recover.items()}
    return {
        "first_start_s": first,
        "recover_s": worst,
        **{name: round(seconds, 2) for name, seconds in gaps.items()},
        "rss_mb": services.peak_mb,
        "warm_rss_mb": services.warm_mb,
    }


def evaluate(whole: Found, tenth: Found) -> tuple[Found, list[bool]]:
    """The figures of both sizes, and whether each target is met."""
    recover_s = max(whole["recover_s"].values())
    # The session time-out, before the broker declares a member dead, is not part of the rebalance.
    rebalance_s = round(max(whole["join_s"], whole["takeover_s"] - SESSION_S), 2)
    peaks, small = whole["rss_mb"], tenth["rss_mb"]
    found = {
        "orders": whole["orders"],
        "recover_s": recover_s,
        "rebalance_s": rebalance_s,
        "rss_mb": max(peaks.values()),
        "rss_mb_100k": max(small.values()),
        "session_s": SESSION_S,
        "tolerance": TOLERANCE,
        "whole": whole,
        "tenth": tenth,
    }
    flat = all(peaks[name] <= small[name] * TOLERANCE for name in peaks)
    return found, [recover_s <= WANTED_S, rebalance_s <= WANTED_S, max(peaks.values()) <= WANTED_MB, flat]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=1_000_000, help="settled orders")
    parser.add_argument("--kills", type=int, default=5, help="kills of each service")
    parser.add_argument("--check", action="store_true", help="audit and replay the logs; takes memory")
    given = parser.parse_args()
    # SIGTERM ends the broker and the services, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    tenth = measure(given.orders // 10, given.kills, checked=given.check)
    print(json.dumps(tenth), flush=True)
    whole = measure(given.orders, given.kills, checked=given.check)
    found, met = evaluate(whole, tenth)
    conclude(found, *met)


if __name__ == "__main__":
    main()
