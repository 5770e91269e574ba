"""bench-settle: settled orders per second of the whole system, with the load generator on the same cores.

The load is open-loop: orders come at a fixed rate, so a system that falls behind is detected. The rate is the target,
or the highest sustainable rate that a trial finds. Writes a plot, the figures and a flame graph of each process to
bench/results/. Prints one JSON object as its last line, and exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from math import inf
from statistics import mean
from typing import Any

from bench.command import RESULTS, conclude, python
from bench.memory import rss_mb
from bench.system import cpu_s, flames, make_campaign, pids, system
from bench.yardstick import Echo, measure_echo
from groupbuy_testing.running import RunningStack

#: Settled orders for each call of the echo server in the same run: streamed, and as single calls.
MIN_PER_ECHO, MIN_UNARY_PER_ECHO = 0.10, 0.08
#: Latency at half load, in calls of the echo server: of a seat, and of a full group that is charged.
MAX_SEAT_ECHOES, MAX_CHARGED_ECHOES = 900.0, 1_800.0
ECHO_S = 5.0
#: Least ratio of the rate in the last third of a run to that in the first.
STEADY = 0.9
WARM_S = 15.0
TRIAL_S = 20.0
PARTITIONS = 4
Found = dict[str, Any]


class Bench:
    """One system and the figures of its runs."""

    def __init__(self, running: RunningStack) -> None:
        self._running = running
        self._campaign = make_campaign(running)
        self.runs: dict[str, Found] = {}
        self.costs: dict[str, dict[str, float]] = {}

    def run(self, name: str, kind: str, rate: float, seconds: float, *, warm_s: float = WARM_S) -> Found:
        """Runs a load for `seconds` after the warm-up, and returns its figures."""
        latencies = name.startswith("half")
        before = {process: cpu_s(pid) for process, pid in pids(self._running).items()}
        load_before_s = sum(os.times()[2:4])
        found = self._load(kind=kind, rate=rate, seconds=seconds + warm_s, warm_s=warm_s, latencies=latencies)
        found["offered_per_s"] = round(rate, 1)
        found["settled_per_s"] = round(mean(found["steady"]), 1) if found["steady"] else 0.0
        used = {process: cpu_s(pid) - before[process] for process, pid in pids(self._running).items()}
        used["load generator"] = sum(os.times()[2:4]) - load_before_s
        settled = max(found["settled"], 1)
        self.runs[name] = found
        self.costs[name] = {process: round(seconds * 1e6 / settled, 1) for process, seconds in used.items()}
        print(
            f"{name:14} offered {rate:7,.0f}/s  settled {found['settled_per_s']:7,.0f}/s  "
            f"accepted {found['accepted_ms']} ms  drained in {found['drain_s']} s  {found['ended_otherwise']}",
            flush=True,
        )
        return found

    def sustainable(self, name: str, kind: str, wanted: float) -> float:
        """The lower one of the wanted rate and the highest rate that a trial finds sustainable."""
        found = self.run(f"trial {name}", kind, wanted, TRIAL_S / 2, warm_s=TRIAL_S / 2)
        if found["settled_per_s"] >= 0.97 * wanted:
            return wanted
        # The system works in order, so orders settle late if it is behind. The time until all are settled counts.
        return max(0.9 * float(found["settled"]) / (TRIAL_S + max(float(found["drain_s"]), 0.0)), 10.0)

    def fill(self, groups: int) -> None:
        """Opens groups that stay open."""
        found = self._load(kind="fill", groups=groups, campaign=make_campaign(self._running))
        print(f"{groups:,} groups are open after {found['seconds']} s", flush=True)

    def _load(self, **job: Any) -> Found:
        stack = self._running.stack
        base = {"kafka": stack.kafka, "orders": stack.endpoints["orders"], "partitions": PARTITIONS}
        found: Found = python("bench.settle.load", {"campaign": self._campaign, **base, **job})
        return found

    def table(self) -> str:
        """Microseconds of CPU time per settled order, by process and run."""
        names = list(next(iter(self.costs.values())))
        lines = [f"{'µs CPU per settled order':24}" + "".join(f"{name:>16}" for name in names) + f"{'all':>10}"]
        for run, cost in self.costs.items():
            row = "".join(f"{cost.get(name, 0):16,.0f}" for name in names)
            lines.append(f"{run:24}{row}{sum(cost.values()):10,.0f}")
        return "\n".join(lines)


def steady(found: Mapping[str, Any]) -> bool:
    """Whether the last third of a run settled about as many orders as the first."""
    per_s = found["steady"]
    third = len(per_s) // 3
    return third == 0 or mean(per_s[-third:]) >= STEADY * mean(per_s[:third])


def plot(runs: Mapping[str, Found]) -> None:
    """Plots rate and latency over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (rate, latency) = plt.subplots(2, 1, sharex=True, figsize=(10, 7))
    for name, found in runs.items():
        if name.startswith("trial"):
            continue
        rate.plot([int(second) for second in found["per_second"]], list(found["per_second"].values()), label=name)
        times = found["latency_per_second"]
        latency.plot([int(second) for second in times], list(times.values()), label=name)
    rate.set_ylabel("orders settled per second")
    rate.set_ylim(bottom=0)
    rate.legend()
    latency.set_ylabel("order accepted, p99 in ms")
    latency.set_yscale("log")
    latency.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(RESULTS / "settle.png", dpi=110)


def measure(*, seconds: float, groups: int, rate: float, unary_rate: float, flame_s: float) -> tuple[Bench, Found]:
    """All runs on one system. Writes the figures before the state is filled, which takes long, and again after."""
    echo = measure_echo(ECHO_S)
    with system(partitions=PARTITIONS) as running:
        bench = Bench(running)
        sustainable = bench.sustainable("streamed", "stream", rate)
        main = bench.run("streamed", "stream", sustainable, seconds)
        bench.run("half load", "stream", main["settled_per_s"] / 2, max(seconds / 2, 10), warm_s=3)
        bench.run("unary", "unary", bench.sustainable("unary", "unary", unary_rate), seconds)
        if flame_s > 0:
            with flames(running, RESULTS, seconds=flame_s):
                bench.run("profiled", "stream", 0.7 * main["settled_per_s"], flame_s, warm_s=2)
        figures = write_results(bench, running, 0, echo)
        if groups:
            bench.fill(groups)
            bench.run("with groups", "stream", sustainable, seconds)
            figures = write_results(bench, running, groups, echo)
    return bench, figures


def write_results(bench: Bench, running: RunningStack, groups: int, echo: Echo) -> Found:
    """Writes the results so far, and returns their figures."""
    runs = bench.runs
    full = runs.get("with groups", {})
    memory = {name: rss_mb(pid) for name, pid in pids(running).items()}
    half = runs["half load"]
    figures: Found = {
        "settled_per_s": runs["streamed"]["settled_per_s"],
        "settled_per_s_with_1m_groups": full.get("settled_per_s"),
        "groups_in_state": groups,
        "unary_settled_per_s": runs["unary"]["settled_per_s"],
        "peak_rss_mb": max(mb for name, mb in memory.items() if name != "broker"),
        "rss_mb": memory,
        "no_fall": all(steady(found) for found in (runs["streamed"], runs["unary"], full) if found),
        "seat_p99_ms": half["seat_ms"].get("p99"),
        "charged_p99_ms": half["charged_ms"].get("p99"),
        "accepted_p99_ms": half["accepted_ms"].get("p99"),
        "cpu_us_per_settled_order": round(sum(bench.costs["streamed"].values())),
        "cpu_us_half_load": round(sum(bench.costs["half load"].values())),
    }
    figures |= {
        "echo_per_s": round(echo.per_s),
        "settled_per_echo": round(figures["settled_per_s"] / echo.per_s, 3),
        "unary_settled_per_echo": round(figures["unary_settled_per_s"] / echo.per_s, 3),
    }
    plot(runs)
    results = {"figures": figures, "cpu_us_per_settled_order": bench.costs, "runs": runs}
    (RESULTS / "settle.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return figures


def _echoes(figures: Found, name: str) -> float:
    """A time in calls of the echo server; endless if it was not measured."""
    found = figures[name]
    return inf if found is None else found / 1000 * figures["echo_per_s"]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60, help="duration of each run after its warm-up")
    parser.add_argument(
        "--groups", type=int, default=1_000_000, help="open groups in state during the last run; 0: no such run"
    )
    parser.add_argument("--rate", type=float, default=1_700, help="streamed orders offered per second")
    parser.add_argument("--unary-rate", type=float, default=850, help="unary orders offered per second")
    parser.add_argument(
        "--flame-s", type=float, default=15, help="seconds of the run that is profiled; 0: no flame graphs"
    )
    given = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    bench, figures = measure(**vars(given))
    print(bench.table(), flush=True)
    conclude(
        figures,
        figures["settled_per_echo"] >= MIN_PER_ECHO,
        not given.groups or figures["settled_per_s_with_1m_groups"] >= MIN_PER_ECHO * figures["echo_per_s"],
        figures["unary_settled_per_echo"] >= MIN_UNARY_PER_ECHO,
        figures["no_fall"],
        _echoes(figures, "seat_p99_ms") <= MAX_SEAT_ECHOES,
        _echoes(figures, "charged_p99_ms") <= MAX_CHARGED_ECHOES,
    )


if __name__ == "__main__":
    main()
