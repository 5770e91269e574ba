"""Proves the tests of the kernel: with any one of its fixes switched off, some run fails.

`python -m tests.chaos.kernel.switched_off` tries for each fix the unit tests, then a kill at each failpoint, then runs
with kills, freezes, doubles and late requests under several seeds, until one fails. It prints one row for each fix. It
exits with 1 if no run detects a fix that is switched off, or if a run fails with nothing switched off. `--write` puts
the rows into README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devstack.kafka.broker import Broker
from tests.chaos.kernel.run import UNSOUND, WRONG, FaultPlan, chaos, exact
from tests.chaos.kernel.switches import NOTHING, SWITCHES, VARIABLE, Switch

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- begin: switched off -->", "<!-- end: switched off -->"
TRIES = 3
UNITS = "tests/unit/eventlog"
PYTEST = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "--no-header", "-rf")


@dataclass
class Row:
    """The runs that detected a switch; a dash: none did."""

    name: str
    fix: str
    units: str = "—"
    crashes: str = "—"
    chaos: str = "—"

    @property
    def found(self) -> bool:
        """Whether any run failed."""
        return (self.units, self.crashes, self.chaos) != ("—", "—", "—")

    def markdown(self) -> str:
        return f"| {self.fix} | `{self.name}` | {self.units} | {self.crashes} | {self.chaos} |"


def _failed(tests: str, name: str, **environment: str) -> str:
    """The name of the first test that fails with a fix switched off, or a dash.

    Raises RuntimeError if the tests could not run: an error is no proof.
    """
    done = subprocess.run(
        [*PYTEST, "-p", "tests.chaos.kernel.switches", *tests.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, VARIABLE: name, **environment},
    )
    failed = [line.split("::")[1].split(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    if not failed:
        if done.returncode:
            raise RuntimeError(f"the tests did not run: {done.stdout[-2_000:]}{done.stderr[-2_000:]}")
        return "—"
    return failed[0].partition("[")[0].replace("_", " ").removeprefix("test ")


async def _chaos(kafka: str, name: str, switch: Switch, directory: Path, tries: int) -> str:
    for seed in range(1, tries + 1):
        plan = FaultPlan(
            facts=40_000,
            aggregates=4_000,
            seconds=25,
            load_share=0.25,
            kills=8,
            freezes=1,
            doubles=1,
            seed=seed,
            session_s=6,
            drain_s=90,
            environment={VARIABLE: name},
            split=switch.splits,
        )
        counts = await chaos(kafka, plan, directory / f"{name}-{seed}")
        if not exact(counts):
            wrong = ", ".join(f"{counts[one]} {one.replace('_', ' ')}" for one in (*WRONG, *UNSOUND) if counts[one])
            return f"try {seed}: {wrong}"
    return "—"


def rows(names: list[str], kafka: str, directory: Path, tries: int) -> Iterator[Row]:
    """Yields one row for each fix."""
    for name in names:
        switch = SWITCHES[name]
        row = Row(name, switch.fix)
        row.units = _failed(UNITS, name)
        if not switch.splits:
            row.crashes = _failed("tests/integration/test_kernel_exactness.py -k crash", name, KAFKA=kafka)
        row.chaos = asyncio.run(_chaos(kafka, name, switch, directory, tries))
        yield row


def write(row: Row) -> None:
    """Replaces the row of a fix in the README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    lines = {line.split("`")[1]: line for line in old.splitlines() if "`" in line}
    lines[row.name] = row.markdown()
    head = ["", "| fix | switch | unit test | crash points | kills and late requests |", "|-|-|-|-|-|"]
    ordered = [lines[name] for name in SWITCHES if name in lines]
    README.write_text(before + BEGIN + "\n".join([*head, *ordered, ""]) + END + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SWITCHES, default=list(SWITCHES))
    parser.add_argument("--tries", type=int, default=TRIES, help="most runs with kills for each fix")
    parser.add_argument("--write", action="store_true", help="put the rows into README.md")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    table: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="groupbuy-proof-") as directory:
        broker = Broker()
        try:
            broker.start(Path(directory) / "kafka")
            for row in rows(given.only, broker.bootstrap, Path(directory), given.tries):
                print(row.markdown(), flush=True)
                table.append(row)
                if given.write:
                    write(row)
        finally:
            broker.release()
    undetected = [row.name for row in table if row.found == (row.name == NOTHING)]
    print(json.dumps({"switched_off": len(table), "found": len(table) - len(undetected), "missed": undetected}))
    sys.exit(1 if undetected else 0)


if __name__ == "__main__":
    main()
