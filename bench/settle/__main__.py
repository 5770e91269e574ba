"""bench-settle: settled orders a second of the whole system, on whatever cores there are, load generator included.

Open-loop load: orders come at a rate of their own, and a system that falls behind is seen to. The rate is the one that
is wanted, or what a trial finds the system to bear. Keeps a plot, the figures and a flame graph of each process under
bench/results/. Prints one JSON object as its last line; exits 1 when a claim fails.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from statistics import mean
from typing import Any

from bench.memory import rss_mb
from bench.system import RESULTS, conclude, cpu_s, flames, make_campaign, pids, python, system
from groupbuy_testing.running import RunningStack

WANTED_PER_S = 1_600.0
WANTED_UNARY_PER_S = 800.0
WANTED_SEAT_MS, WANTED_CHARGED_MS = 150.0, 400.0
#: What the last third of a run has to reach of its first.
STEADY = 0.9
WARM_S = 15.0
TRIAL_S = 20.0
PARTITIONS = 4
Found = dict[str, Any]


class Bench:
    """One system, and what was found out about it."""

    def __init__(self, running: RunningStack) -> None:
        self._running = running
        self._campaign = make_campaign(running)
        self.runs: dict[str, Found] = {}
        self.costs: dict[str, dict[str, float]] = {}

    def run(self, name: str, kind: str, rate: float, seconds: float, *, warm_s: float = WARM_S) -> Found:
        """Load for `seconds` after the warm-up, and what came of it."""
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

    def bearable(self, name: str, kind: str, wanted: float) -> float:
        """The rate that is wanted, or what the system has shown to bear, if that is less."""
        found = self.run(f"trial {name}", kind, wanted, TRIAL_S / 2, warm_s=TRIAL_S / 2)
        if found["settled_per_s"] >= 0.97 * wanted:
            return wanted
        # Work is done in the order it came in, so who is behind settles late: what counts is when all is done.
        return max(0.9 * float(found["settled"]) / (TRIAL_S + max(float(found["drain_s"]), 0.0)), 10.0)

    def fill(self, groups: int) -> None:
        """Opens so many groups that stay open."""
        found = self._load(kind="fill", groups=groups, campaign=make_campaign(self._running))
        print(f"{groups:,} groups are open after {found['seconds']} s", flush=True)

    def _load(self, **job: Any) -> Found:
        stack = self._running.stack
        base = {"kafka": stack.kafka, "orders": stack.endpoints["orders"], "partitions": PARTITIONS}
        found: Found = python("bench.settle.load", {"campaign": self._campaign, **base, **job})
        return found

    def table(self) -> str:
        """Microseconds of processor time for each settled order, by process and run."""
        names = list(next(iter(self.costs.values())))
        lines = [f"{'µs CPU a settled order':24}" + "".join(f"{name:>16}" for name in names) + f"{'all':>10}"]
        for run, cost in self.costs.items():
            row = "".join(f"{cost.get(name, 0):16,.0f}" for name in names)
            lines.append(f"{run:24}{row}{sum(cost.values()):10,.0f}")
        return "\n".join(lines)


def steady(found: Mapping[str, Any]) -> bool:
    """Whether the last third of a run settled about as much as its first."""
    per_s = found["steady"]
    third = len(per_s) // 3
    return third == 0 or mean(per_s[-third:]) >= STEADY * mean(per_s[:third])


def plot(runs: Mapping[str, Found]) -> None:
    """Rate and latency over time."""
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
    rate.set_ylabel("orders settled a second")
    rate.set_ylim(bottom=0)
    rate.legend()
    latency.set_ylabel("order accepted, p99 in ms")
    latency.set_yscale("log")
    latency.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(RESULTS / "settle.png", dpi=110)


def measure(*, seconds: float, groups: int, rate: float, unary_rate: float, flame_s: float) -> tuple[Bench, Found]:
    """All runs, on one system. What is found is kept before the state is filled, which takes long, and after."""
    with system(partitions=PARTITIONS) as running:
        bench = Bench(running)
        bears = bench.bearable("streamed", "stream", rate)
        main = bench.run("streamed", "stream", bears, seconds)
        bench.run("half load", "stream", main["settled_per_s"] / 2, max(seconds / 2, 10), warm_s=3)
        unary_bears = bench.bearable("unary", "unary", unary_rate)
        bench.run("unary", "unary", unary_bears, seconds)
        if flame_s > 0:
            with flames(running, RESULTS, seconds=flame_s):
                bench.run("watched", "stream", 0.7 * main["settled_per_s"], flame_s, warm_s=2)
        figures = keep(bench, running, 0)
        if groups:
            bench.fill(groups)
            bench.run("with groups", "stream", bears, seconds)
            figures = keep(bench, running, groups)
    return bench, figures


def keep(bench: Bench, running: RunningStack, groups: int) -> Found:
    """Writes what was found so far, and returns the figures of it."""
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
    }
    plot(runs)
    kept = {"figures": figures, "cpu_us_per_settled_order": bench.costs, "runs": runs}
    (RESULTS / "settle.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return figures


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60, help="of each run, after its warm-up")
    parser.add_argument("--groups", type=int, default=1_000_000, help="open groups in state for the last run; 0: none")
    parser.add_argument("--rate", type=float, default=1_700, help="streamed orders offered a second")
    parser.add_argument("--unary-rate", type=float, default=850, help="unary orders offered a second")
    parser.add_argument("--flame-s", type=float, default=15, help="seconds for the flame graphs; 0: none")
    given = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    bench, figures = measure(**vars(given))
    print(bench.table(), flush=True)
    conclude(
        figures,
        figures["settled_per_s"] >= WANTED_PER_S,
        not given.groups or figures["settled_per_s_with_1m_groups"] >= WANTED_PER_S,
        figures["unary_settled_per_s"] >= WANTED_UNARY_PER_S,
        figures["no_fall"],
        figures["seat_p99_ms"] is not None and figures["seat_p99_ms"] <= WANTED_SEAT_MS,
        figures["charged_p99_ms"] is not None and figures["charged_p99_ms"] <= WANTED_CHARGED_MS,
    )


if __name__ == "__main__":
    main()
