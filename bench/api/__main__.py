"""bench-api: the highest rate of one orders process, its latency at half of it, and its behaviour at five times it.

Broker and load generator run on the same cores. The services that decide and pay for the orders are stopped; their cost
is measured by bench-settle. First many watchers watch one group. Prints one JSON object as its last line, and exits
with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
from statistics import mean, median
from typing import Any

from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub

from bench.api.load import order
from bench.command import conclude, python
from bench.memory import rss_mb
from bench.system import CALL_S, cpu_s, make_campaign, pids, system
from bench.yardstick import IN_FLIGHT, WARM_S, measure_echo
from groupbuy_testing.running import RunningStack

#: Shares of the echo server's rate: single calls, and orders in batches or on streams.
MIN_CALLS_PER_ECHO = 0.35
MIN_ORDERS_PER_ECHO = 1.5
#: Latency at half of the highest rate, in multiples of the echo server's at half of its own.
MAX_LATENCY_PER_ECHO = 6.0
#: Time until 99 % of the watchers have a change, in calls of the echo server for each watcher.
MAX_ECHOES_PER_WATCHER = 0.6
#: Share of the highest rate that remains at five times the load.
MIN_GOODPUT = 0.6
#: Latency of accepted orders under overload: the load shedder limits it, whatever the machine.
MAX_OVERLOADED_MS = 2_000.0
OVERLOAD = 5
OVERLOADS = 5
#: Deadline of the calls under overload.
DEADLINE_S = 5


class Load:
    """Load on one server; each job runs in a process of its own."""

    def __init__(self, endpoint: str, pid: int, campaign: str) -> None:
        self._endpoint = endpoint
        self._pid = pid
        self._campaign = campaign

    def run(self, job: str, **more: Any) -> dict[str, float]:
        """Runs a job, and returns its figures."""
        before_s = cpu_s(self._pid)
        full = {"job": job, "endpoint": self._endpoint, "campaign": self._campaign, **more}
        found: dict[str, float] = python("bench.api.load", full)
        print(f"{job:7} {_line(found)}  {cpu_s(self._pid) - before_s:.1f} s CPU of the server", flush=True)
        return found

    def closed(self, seconds: float) -> float:
        """Closed loop: calls per second with a constant number of calls in flight."""
        most = int((seconds + WARM_S) * 10_000)
        found = self.run("closed", at_once=IN_FLIGHT, seconds=seconds, warm_s=WARM_S, most=most)
        return found["per_s"]


def overloaded(load: Load, seconds: float) -> tuple[float, float, dict[str, float]]:
    """The highest rate, the share of it that remains at five times the load, and the figures of the worst overload.

    Each overload is compared with the highest rates just before and just after it, since the speed of a shared machine
    can halve within a minute.
    """
    highest = [load.closed(seconds)]
    ratios, overloads = [], []
    for _ in range(OVERLOADS):
        rate = highest[-1] * OVERLOAD
        over = load.run("open", rate=rate, seconds=seconds, most=int(rate * seconds), timeout_s=DEADLINE_S)
        highest.append(load.closed(seconds))
        ratios.append(over["per_s"] / mean(highest[-2:]))
        overloads.append(over)
    return max(highest), median(ratios), max(overloads, key=lambda over: over["p99_ms"])


def _line(found: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:,.1f}" for name, value in found.items())


def watched(running: RunningStack, campaign: str, watchers: int) -> float:
    """Milliseconds in which 99 % of the watchers of one group receive a change."""
    leader = OrderServiceStub(running.orders).PlaceOrder(order(campaign), timeout=CALL_S).order
    job = {
        "job": "watch",
        "orders": running.endpoints["orders"],
        "groups": running.endpoints["groups"],
        "campaign": campaign,
        "group": leader.group,
        "watchers": watchers,
        "rounds": 5,
    }
    found = python("bench.api.load", job)
    print(f"watch   {_line(found)}", flush=True)
    return float(found["p99_ms"])


def measure(*, seconds: float, orders: int, watchers: int) -> dict[str, float]:
    """All measurements on one system."""
    echo = measure_echo(seconds / 2)
    with system() as running:
        campaign = make_campaign(running)
        watchers_ms = watched(running, campaign, watchers)
        for name in ("groups", "payments"):
            running.stack.stop_service(name)
        load = Load(running.endpoints["orders"], pids(running)["orders"], campaign)
        load.closed(seconds / 2)
        # Half of the highest rate measured just now, since the speed of the machine varies.
        now = load.closed(seconds)
        half = load.run("open", rate=now / 2, seconds=seconds, most=int(now * seconds))
        best, kept, over = overloaded(load, seconds / 2)
        batched = load.run("batch", at_once=4, most=orders)
        streamed = load.run("stream", at_once=4, most=orders)
        peak_mb = rss_mb(pids(running)["orders"])
    return {
        "place_order_per_s": round(max(now, best)),
        "echo_per_s": round(echo.per_s),
        "echo_p99_ms": round(echo.p99_ms, 1),
        "calls_per_echo": round(max(now, best) / echo.per_s, 2),
        "orders_per_echo": round(max(batched["per_s"], streamed["per_s"]) / echo.per_s, 2),
        "latency_per_echo": round(half["p99_ms"] / echo.p99_ms, 2),
        "echoes_per_watcher": round(echo.calls_in(watchers_ms) / watchers, 2),
        "batched_orders_per_s": round(batched["per_s"]),
        "streamed_orders_per_s": round(streamed["per_s"]),
        "p50_ms": round(half["p50_ms"], 1),
        "p99_ms": round(half["p99_ms"], 1),
        "watchers": watchers,
        "watchers_p99_ms": round(watchers_ms, 1),
        "overload_goodput_ratio": round(kept, 2),
        "overload_begun_per_s": round(over["begun_per_s"]),
        "overload_accepted_p99_ms": round(over["p99_ms"], 1),
        "peak_rss_mb": peak_mb,
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10, help="duration of each measurement")
    parser.add_argument("--orders", type=int, default=300_000, help="orders placed in batches, and again in streams")
    parser.add_argument("--watchers", type=int, default=10_000, help="watchers of one group")
    found = measure(**vars(parser.parse_args()))
    conclude(
        found,
        found["calls_per_echo"] >= MIN_CALLS_PER_ECHO,
        found["orders_per_echo"] >= MIN_ORDERS_PER_ECHO,
        found["latency_per_echo"] <= MAX_LATENCY_PER_ECHO,
        found["echoes_per_watcher"] <= MAX_ECHOES_PER_WATCHER,
        found["overload_goodput_ratio"] >= MIN_GOODPUT,
        found["overload_accepted_p99_ms"] <= MAX_OVERLOADED_MS,
    )


if __name__ == "__main__":
    main()
