"""bench-costs: where the CPU time of a settled order goes, by process and cause, at full and at half load.

The totals come from a run without a profiler, the shares of the causes from a second run of the same kind with one:
py-spy samples all Python threads with their native frames. Threads that are not Python's are named by their library.
Also prints the records and bytes that an order leaves in each topic. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.command import ROOT, conclude
from bench.costs.causes import CAUSES, cause_of_thread, shares
from bench.costs.records import Size, per_order, sizes
from bench.costs.threads import cpu_by_thread, spent
from bench.settle.__main__ import PARTITIONS, Bench
from bench.system import pids, system
from devstack.stack import BROKER
from groupbuy_testing.running import RunningStack
from shared_kernel.topics import BUSINESS, INVENTORY

#: Samples a second of each process. More would slow the run.
RATE = 40
BROKER_CAUSE = "broker"
#: The profiled run at full load, as a part of the rate at full load: the profiler takes CPU time too.
PROFILED = 0.7
WARM_S = 3.0
COLUMNS = (*CAUSES, BROKER_CAUSE)
Costs = dict[str, dict[str, float]]


@contextmanager
def sampled(running: RunningStack, seconds: float, folder: Path) -> Iterator[dict[str, dict[str, float]]]:
    """Samples all Python processes for `seconds`; afterwards the result has the shares of the causes by process.

    Leaves the stacks of each process in the folder, in py-spy's raw format.
    """
    found: dict[str, dict[str, float]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    samplers: dict[str, subprocess.Popen[bytes]] = {}
    spy = str(Path(sys.executable).with_name("py-spy"))
    for name, pid in pids(running).items():
        if name != BROKER:
            options = ["--native", "--nolineno", "--full-filenames", "--format", "raw", "--rate", str(RATE)]
            options += ["--duration", str(int(seconds)), "--output", str(folder / name), "--pid", str(pid)]
            samplers[name] = subprocess.Popen(
                [spy, "record", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
    yield found
    for name, sampler in samplers.items():
        if sampler.wait():
            raise SystemExit(f"py-spy could not sample {name}")
        found[name] = shares((folder / name).read_text(encoding="utf-8"), str(ROOT))


def split(threads: Mapping[str, float], causes: Mapping[str, float] | None) -> dict[str, float]:
    """Seconds by cause of one process: its named native threads, and the rest by the shares of the samples."""
    made: defaultdict[str, float] = defaultdict(float)
    for name, seconds in threads.items():
        cause = BROKER_CAUSE if causes is None else cause_of_thread(name)
        if cause is not None:
            made[cause] += seconds
            continue
        for one, share in (causes or {}).items():
            made[one] += seconds * share
    return dict(made)


def measure_load(
    bench: Bench, running: RunningStack, name: str, rates: tuple[float, float], seconds: float, stacks: Path
) -> Costs:
    """Microseconds a settled order by process and cause. `rates` are those of the plain run and of the profiled one."""
    before = {process: cpu_by_thread(pid) for process, pid in pids(running).items()}
    found = bench.run(name, "stream", rates[0], seconds, warm_s=WARM_S)
    after = {process: cpu_by_thread(pid) for process, pid in pids(running).items()}
    with sampled(running, seconds, stacks / name.replace(" ", "-")) as causes:
        bench.run(f"{name}, profiled", "stream", rates[1], seconds, warm_s=WARM_S)
    orders = max(found["settled"], 1)
    return {
        process: {
            cause: round(value * 1e6 / orders, 1)
            for cause, value in split(spent(before[process], threads), causes.get(process)).items()
        }
        for process, threads in after.items()
    }


def table(costs: Costs, title: str) -> str:
    """The costs as a table: processes by causes."""
    lines = [f"{title:22}" + "".join(f"{name:>18}" for name in COLUMNS) + f"{'all':>8}"]
    rows = {**costs, "all": _sum(costs)}
    for process, row in rows.items():
        cells = "".join(f"{row.get(cause, 0):18,.0f}" for cause in COLUMNS)
        lines.append(f"{process:22}{cells}{sum(row.values()):8,.0f}")
    return "\n".join(lines)


def _sum(costs: Costs) -> dict[str, float]:
    return {cause: sum(row.get(cause, 0.0) for row in costs.values()) for cause in COLUMNS}


def measure(rate: float, seconds: float, stacks: Path) -> dict[str, Any]:
    """All runs on one system."""
    with system(partitions=PARTITIONS) as running:
        bench = Bench(running)
        data = running.stack.run_dir / "data" / "kafka" / "data"
        names = [topic.name for topic in BUSINESS if topic not in INVENTORY]

        def sizes_now() -> dict[str, Size]:
            return asyncio.run(sizes(running.stack.kafka, data, names, PARTITIONS))

        full = bench.sustainable("full", "stream", rate)
        before = sizes_now()
        settled = -_settled(bench)
        costs = {
            "full load": measure_load(bench, running, "full load", (full, PROFILED * full), seconds, stacks),
            "half load": measure_load(bench, running, "half load", (full / 2, full / 2), seconds, stacks),
        }
        settled += _settled(bench)
        records = per_order(before, sizes_now(), settled)
    for title, found in costs.items():
        print(table(found, f"µs an order, {title}"), flush=True)
    print(f"{'an order leaves':40}{'records':>10}{'bytes':>10}")
    for topic, (count, size) in records.items():
        print(f"{topic:40}{count:10.2f}{size:10,.0f}")
    return {
        "system_cpu_us_full_load": round(sum(_sum(costs["full load"]).values())),
        "system_cpu_us_half_load": round(sum(_sum(costs["half load"]).values())),
        "records_per_order": round(sum(count for count, _ in records.values()), 2),
        "bytes_per_order": round(sum(size for _, size in records.values())),
        "costs": costs,
        "records": {topic: [round(count, 2), round(size)] for topic, (count, size) in records.items()},
    }


def _settled(bench: Bench) -> int:
    return sum(int(found["settled"]) for found in bench.runs.values())


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=1_700, help="orders offered per second at most")
    parser.add_argument("--seconds", type=float, default=20, help="duration of each of the four runs")
    parser.add_argument("--stacks", type=Path, help="directory that keeps the sampled stacks")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-costs-") as temporary:
        conclude(measure(given.rate, given.seconds, given.stacks or Path(temporary)))


if __name__ == "__main__":
    main()
