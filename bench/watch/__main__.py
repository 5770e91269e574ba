"""bench-watch: records a second that the incremental audit of `groupbuy-ops watch` folds, without a broker.

Each worker process writes the logs of its partitions to memory with the product's rules, which is not measured, and
folds them into a state directory on disk, as a worker of `watch` does. Prints one JSON object as its last line, and
exits with 1 if the sum over the workers is below the target or the fold finds a violation.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

from bench.command import conclude, python
from bench.reads.history import PARTITIONS

#: Records a second of all workers.
TARGET_PER_S = 100_000


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=int, default=12_000)
    parser.add_argument("--workers", type=int, default=min(PARTITIONS, os.cpu_count() or 1))
    given = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="bench-watch-")
    shares = [[one for one in range(PARTITIONS) if one % given.workers == n] for n in range(given.workers)]
    try:
        jobs = [
            {"groups": given.groups, "partitions": share, "directory": f"{directory}/{n}"}
            for n, share in enumerate(shares)
        ]
        with ThreadPoolExecutor(given.workers) as pool:
            found = list(pool.map(lambda job: python("bench.watch.fold", job), jobs))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    records = sum(one["records"] for one in found)
    per_s = sum(one["records"] / one["seconds"] for one in found)
    violations = sum(one["violations"] for one in found)
    settled = sum(one["settled"] for one in found)
    conclude(
        {
            "records": records,
            "groups": settled,
            "workers": given.workers,
            "records_per_s": round(per_s),
            "cpu_us_per_record": round(sum(one["cpu_s"] for one in found) / records * 1e6, 2),
            "violations": violations,
            "cases_in_memory": max(one["cases_in_memory"] for one in found),
            "memory_grown_mb": round(max(one["grown_mb"] for one in found)),
            "disk_bytes_per_group": round(sum(one["disk_mb"] for one in found) * 1e6 / settled),
        },
        per_s >= TARGET_PER_S,
        not violations and settled == given.groups,
    )


if __name__ == "__main__":
    main()
