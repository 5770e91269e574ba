"""`make attack`: attacks a secured stack of its own, one attack after another, while well-behaved callers call it.

Prints a row for each attack: the refused attempts, the 99th percentile of the other calls' latency, and the memory of
the services afterwards. The last line is one JSON object. Exit code 1 unless for every attack:

- the required part is refused, and no traceback is logged;
- no other call fails, and their p99 is at most twice that of the quiet phases of the same run;
- within a minute the memory of each service is at most 10 % above its baseline before all attacks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from groupbuy.orders.v1 import orders_pb2

from devstack.stack import Stack
from groupbuy_client import AsyncClient, mtls
from tests.attack.attacks import ATTACKS
from tests.attack.costly_calls import ATTACKED
from tests.attack.others import Latencies, Others, an_order
from tests.attack.site import SERVICES, Site, of_stack

#: Seconds of the first quiet phase, and of the one before each attack.
FIRST_QUIET_S, QUIET_S = 15.0, 4.0
#: Size of the attacks before the baseline, so that every code path has allocated its memory.
WARM = 0.1
#: Milliseconds that a p99 may take in any case: a call takes 2 ms on a quiet machine, and one pause of the garbage
#: collector or of the machine is more than twice that.
FLOOR_MS = 50.0
#: Allowed growth of memory, and the seconds in which it must be reached.
MAX_GROWTH = 0.10
RECOVERY_S = 60.0
POLL_INTERVAL_S = 1.0


@dataclass(slots=True)
class Row:
    """The result of one attack."""

    name: str
    tried: int
    refused: int
    p99_ms: float
    #: Memory of all services, at the end of the attack and after the recovery.
    peak_mb: float
    after_mb: float
    seconds: float
    faults: list[str]


class Run:
    """A stack under attack."""

    def __init__(self, stack: Stack, site: Site, directory: Path, names: Sequence[str]) -> None:
        self._stack = stack
        self._site = site
        self._names = names
        self._file = directory / "site.json"
        site.write(self._file)
        self._quiet = Latencies()
        self.baseline_mb: dict[str, float] = {}

    async def all(self) -> list[Row]:
        """Warms up, measures the baseline and attacks."""
        rows: list[Row] = []
        async with Others(self._site) as others:
            for name in self._names:
                await self._attack(name, WARM)
            others.next_phase()
            await self._measure_quiet(others, FIRST_QUIET_S)
            self.baseline_mb = self._memory()
            echo(f"quiet: p99 {self._quiet.p99_ms():.1f} ms, memory {_shown(self.baseline_mb)}")
            for name in self._names:
                await self._measure_quiet(others, QUIET_S)
                rows.append(await self._row(name, others))
        return rows

    async def _measure_quiet(self, others: Others, seconds: float) -> None:
        others.next_phase()
        await asyncio.sleep(seconds)
        phase = others.next_phase()
        self._quiet.took_ms += phase.took_ms
        for error, times in phase.failed.items():
            self._quiet.failed[error] = self._quiet.failed.get(error, 0) + times

    async def _row(self, name: str, others: Others) -> Row:
        logged = self._tracebacks()
        began = time.monotonic()
        tried, refused, other_answers, faults = await self._attack(name, 1.0)
        seconds = time.monotonic() - began
        phase, peak = others.next_phase(), self._memory()
        max_ms = max(2 * self._quiet.p99_ms(), FLOOR_MS)
        if tried and refused < ATTACKS[name].min_refused * tried:
            faults.append(f"{refused} of {tried} refused, other answers: {other_answers}")
        if phase.p99_ms() > max_ms:
            faults.append(f"p99 {phase.p99_ms():.0f} ms, at most {max_ms:.0f}")
        faults += [f"{times} x {error}" for error, times in phase.failed.items()]
        if self._tracebacks() > logged:
            faults.append(f"{self._tracebacks() - logged} tracebacks logged, the last: {self._last_traceback()}")
        after = await self._recovered_memory()
        faults += [
            f"memory of {service} {after[service]:.0f} MB after {RECOVERY_S:g} s, was {base:.0f}"
            for service, base in self.baseline_mb.items()
            if after[service] > base * (1 + MAX_GROWTH)
        ]
        row = Row(name, tried, refused, phase.p99_ms(), sum(peak.values()), sum(after.values()), seconds, faults)
        echo(line(row))
        return row

    async def _attack(self, name: str, size: float) -> tuple[int, int, dict[str, int], list[str]]:
        """Runs an attack in its own process. Returns tried, refused, other answers by text, and its own errors."""
        command = (sys.executable, "-m", "tests.attack.attacker", str(self._file), name, str(size))
        attacker = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            out, err = await attacker.communicate()
        finally:
            if attacker.returncode is None:
                attacker.kill()
        if attacker.returncode != 0:
            return 0, 0, {}, [f"the attack failed: {err.decode(errors='replace').strip().splitlines()[-1:]}"]
        outcome: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
        return outcome["tried"], outcome["refused"], outcome["others"], []

    async def _recovered_memory(self) -> dict[str, float]:
        """The memory once it is back at the baseline, or after RECOVERY_S."""
        until = time.monotonic() + RECOVERY_S
        while True:
            now = self._memory()
            if all(now[service] <= base * (1 + MAX_GROWTH) for service, base in self.baseline_mb.items()):
                return now
            if time.monotonic() > until:
                return now
            await asyncio.sleep(POLL_INTERVAL_S)

    def _memory(self) -> dict[str, float]:
        """Resident memory of each service in MB."""
        found = {}
        for service in SERVICES:
            pid = self._stack.pid(service)
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
            found[service] = next(int(one.split()[1]) / 1024 for one in status if one.startswith("VmRSS"))
        return found

    def _last_traceback(self) -> str:
        for service in SERVICES:
            text = (self._stack.logs / f"{service}.log").read_text(encoding="utf-8", errors="replace")
            found = max(text.rfind("Traceback"), text.rfind('"exception"'))
            if found >= 0:
                return f"{service}: ...{text[found : found + 1_500]!r}"
        return ""

    def _tracebacks(self) -> int:
        texts = ((self._stack.logs / f"{one}.log").read_text(encoding="utf-8", errors="replace") for one in SERVICES)
        return sum(text.count("Traceback") + text.count('"exception"') for text in texts)


async def _prepared(stack: Stack) -> Site:
    """Creates a campaign and a group, and returns the site."""
    assert stack.credentials is not None
    orders, groups, payments = (stack.endpoints[one] for one in SERVICES)

    def caller(name: str) -> AsyncClient:
        issued = stack.credentials.issued[name]  # type: ignore[union-attr] # asserted above
        credentials = mtls(issued.certificate, issued.key, issued.ca)
        return AsyncClient(orders=orders, groups=groups, payments=payments, credentials=credentials)

    async with caller("merchant") as merchant, caller("shop") as shop:
        campaign = await merchant.create_campaign(
            product="mug",
            currency="CNY",
            solo_price_minor=9_900,
            tiers=[(2, 7_900)],
            capacity=10,
            window=timedelta(hours=2),
            hold_window=timedelta(minutes=30),
        )
        placed = await shop.place_order(
            customer="leader",
            campaign=campaign.name,
            currency="CNY",
            max_unit_price_minor=9_900,
            payment_method="card_ok",
            wait=orders_pb2.WAIT_SEAT_DECIDED,
        )
        site = of_stack(stack, campaign.name, placed.order.group)
        # The attacks wait for and list these orders.
        await shop.place_orders([an_order(site, number) for number in range(ATTACKED)], timeout_s=60.0)
    return site


def echo(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def line(row: Row) -> str:
    """The row as text."""
    verdict = "; ".join(row.faults) or "ok"
    return (
        f"{row.name:<20} {row.refused:>6} of {row.tried:<6} {row.p99_ms:>7.1f} ms "
        f"{row.peak_mb:>7.0f} -> {row.after_mb:>6.0f} MB {row.seconds:>6.1f} s  {verdict}"
    )


def _shown(memory: dict[str, float]) -> str:
    return ", ".join(f"{service} {size:.0f} MB" for service, size in memory.items())


def summary(rows: Sequence[Row], base_mb: float) -> dict[str, Any]:
    """The object of the last line."""
    return {
        "attacks": len(rows),
        "failed": sum(bool(row.faults) for row in rows),
        "worst_p99_ms": round(max((row.p99_ms for row in rows), default=0.0), 1),
        "memory_growth_mb": round(rows[-1].after_mb - base_mb, 1) if rows else 0.0,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the suite. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="make attack", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=sorted(ATTACKS), help="run only this attack; may be repeated"
    )
    options = parser.parse_args(arguments)
    names = options.only or list(ATTACKS)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with tempfile.TemporaryDirectory(prefix="attack-") as found:
        directory = Path(found)
        with Stack(directory / "run", secured=True) as stack:

            async def attacked() -> tuple[list[Row], float]:
                run = Run(stack, await _prepared(stack), directory, names)
                rows = await run.all()
                return rows, sum(run.baseline_mb.values())

            rows, base_mb = asyncio.run(attacked())
            fallen = stack.failure()
    echo(f"\n{'attack':<20} {'refused':>16} {'other p99':>10} {'memory, after':>21} {'took':>9}")
    for row in rows:
        echo(line(row))
    if fallen:
        echo(f"a process ended: {fallen}")
    found_ = summary(rows, base_mb)
    echo(json.dumps(found_))
    return 1 if found_["failed"] or fallen else 0


if __name__ == "__main__":
    raise SystemExit(main())
