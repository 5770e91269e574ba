"""`make drills`: causes each alert on a real system with a real Prometheus, and sees it fire and end.

First an evening is played on the system, in which no alert may fire. Then one fault after another is caused. While its
alerts fire, the first command of each runbook is run and has to end with an exit code that the page names. Then the
fault is healed, and the alerts have to end. Prometheus scrapes twice a second, and its rules have a sixtieth of the
times; thresholds that would take too long are lower, as `drill_threshold` of the alert says.

Prints a table of the seconds that each alert took: from the beginning of the cause until it fired, and from the
beginning of the healing until it ended, 0 if it ended before, because a range of the alert was over. The last line is
one JSON object. Exit codes: 0 every alert passed its drill, no alert fired in the quiet evening and every panel of the
dashboards has data; 1 otherwise; 2 cannot run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import grpc

from chassis.rpc.client_config import channel_options
from ops.demo.plan import plan
from ops.demo.player import Player, Tally
from tests.drills import faults_money, faults_processes, faults_records
from tests.drills.drill import DRILLS, Drill
from tests.drills.panels import empty_panels
from tests.drills.prometheus import binary
from tests.drills.site import Site
from tests.integration.shop import pause
from tools.observe.rules import ALERTS
from tools.observe.runbook import first_step

#: The drills run in this order, so that the log is copied before it has bad records.
MODULES = tuple(one.__name__ for one in (faults_records, faults_processes, faults_money))
EVENING = 150
#: Seconds of traffic without a fault, after which no alert may have fired.
QUIET_S = 40.0
SEED = 20


@dataclass(slots=True)
class Row:
    """The result of one alert."""

    alert: str
    drill: str
    fired_s: float | None = None
    ended_s: float | None = None
    faults: list[str] = field(default_factory=list)


class Run:
    """The drills on one site."""

    def __init__(self, site: Site, wanted: frozenset[str]) -> None:
        self._site = site
        self._wanted = wanted
        self.rows: list[Row] = []
        self.quiet: list[str] = []
        self.empty: list[str] = []
        #: Drills whose alerts have to end, with the monotonic time of their healing.
        self._open: list[tuple[Drill, float, list[Row]]] = []

    def all(self) -> None:
        """The quiet phase, and every drill with a wanted alert."""
        began_s = time.monotonic()
        shop = self._site.shop
        # A group that stays open, so that panels about open holds have data.
        campaign = shop.campaign(capacity=2, tiers=((2, 8_900),), window_s=600.0, hold_s=300.0)
        shop.wait(shop.place(campaign), "CONFIRMED")
        asyncio.run(_evening(self._site))
        pause(max(0.0, QUIET_S - (time.monotonic() - began_s)))
        self.quiet = sorted(self._site.observer.fired)
        echo(f"quiet evening: {len(self.quiet)} alerts fired {' '.join(self.quiet)}")
        self.empty = empty_panels(self._site.prometheus)
        echo(f"dashboards: {len(self.empty)} panels without data {', '.join(self.empty)}")
        shop.cancel_open_groups(campaign)
        for drill in sorted(DRILLS, key=lambda one: MODULES.index(one.fault.__module__)):
            if self._wanted & set(drill.alerts):
                self._run(drill)
        for drill, healed_s, rows in self._open:
            self._wait_ended(drill, healed_s, rows)

    def _run(self, drill: Drill) -> None:
        rows = [Row(alert, drill.name) for alert in drill.alerts if alert in self._wanted]
        self.rows += rows
        observer = self._site.observer
        observer.wait_ended(*drill.alerts, timeout_s=30)
        began_s = healed_s = time.monotonic()
        try:
            with drill.fault(self._site) as variables:
                self._wait_fired(drill, began_s, rows)
                self._first_steps(rows, dict(variables))
                healed_s = time.monotonic()
        except Exception as error:  # noqa: BLE001 - the next drill goes on
            traceback.print_exc()
            for row in rows:
                row.faults.append(f"the drill failed: {error!r}")
        if drill.ends_later:
            self._open.append((drill, healed_s, rows))
        else:
            self._wait_ended(drill, healed_s, rows)

    def _wait_fired(self, drill: Drill, began_s: float, rows: Sequence[Row]) -> None:
        observer = self._site.observer
        left_s = max(1.0, drill.fires_within_s - (time.monotonic() - began_s))
        deadline_s = time.monotonic() + left_s
        waiting = list(rows)
        while waiting and time.monotonic() < deadline_s:
            for row in list(waiting):
                since_s = observer.since(row.alert)
                if row.alert in observer.firing() and since_s >= began_s:
                    row.fired_s = since_s - began_s
                    waiting.remove(row)
            pause(0.1)
        for row in waiting:
            row.faults.append(f"did not fire within {drill.fires_within_s:.0f} s")

    def _first_steps(self, rows: Sequence[Row], variables: dict[str, str]) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(lambda row: self._first_step(row, variables), [row for row in rows if row.fired_s is not None])
            )

    def _first_step(self, row: Row, variables: dict[str, str]) -> None:
        step = first_step(row.alert)
        code, text = self._site.run(step.command, variables)
        if code not in step.codes:
            expected = " or ".join(map(str, sorted(step.codes)))
            row.faults.append(f"`{step.command}` ended with {code}, not {expected}: {text[-300:]}")

    def _wait_ended(self, drill: Drill, healed_s: float, rows: Sequence[Row]) -> None:
        observer = self._site.observer
        observer.wait_ended(
            *(row.alert for row in rows), timeout_s=max(1.0, healed_s + drill.ends_within_s - time.monotonic())
        )
        for row in rows:
            if row.alert in observer.firing():
                row.faults.append(f"did not end within {drill.ends_within_s:.0f} s")
            elif row.fired_s is not None:
                row.ended_s = max(0.0, observer.since(row.alert) - healed_s)
            echo(line(row))


async def _evening(site: Site) -> None:
    """An evening of the demo on the site."""
    evening, options = plan(EVENING, SEED), channel_options.options()
    async with (
        grpc.aio.insecure_channel(site.stack.endpoints["orders"], options=options) as orders,
        grpc.aio.insecure_channel(site.stack.endpoints["groups"], options=options) as groups,
    ):
        player = Player(orders, groups, uuid4(), Tally())
        await player.open_shop(evening)
        await player.play(evening)


def line(row: Row) -> str:
    """A row of the table."""
    fired = "-" if row.fired_s is None else f"{row.fired_s:.1f}"
    ended = "-" if row.ended_s is None else f"{row.ended_s:.1f}"
    return f"{row.alert:32} {row.drill:34} {fired:>8} {ended:>8}  {'; '.join(row.faults) or 'ok'}"


def echo(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the drills. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="make drills", description="Drills of the alerts.")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="an alert, with or without Groupbuy; repeatable"
    )
    parser.add_argument("--directory", type=Path, help="directory for data and logs, kept; default: a temporary one")
    options = parser.parse_args(arguments)
    wanted = {name if name in ALERTS else f"Groupbuy{name}" for name in options.only or ALERTS}
    if unknown := wanted - ALERTS.keys():
        parser.error(f"no alert {', '.join(sorted(unknown))}; there are {', '.join(ALERTS)}")
    if binary() is None:
        sys.stderr.write("prometheus and promtool are not installed: `apt-get install prometheus`\n")
        return 2
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="groupbuy-drills-") as temporary:
        directory: Path = (options.directory or Path(temporary)).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        with Site(directory) as site:
            run = Run(site, frozenset(wanted))
            run.all()
    header = f"{'alert':32} {'fault':34} {'fired s':>8} {'ended s':>8}"
    echo(f"\n{header}\n{'-' * len(header)}")
    for row in run.rows:
        echo(line(row))
    failed = [row.alert for row in run.rows if row.faults]
    figures = {
        "alerts": len(run.rows),
        "fired": sum(row.fired_s is not None for row in run.rows),
        "ended": sum(row.ended_s is not None for row in run.rows),
        "quiet_alarms": len(run.quiet),
        "empty_panels": len(run.empty),
        "failed": failed,
        "seconds": round(time.monotonic() - began_s),
    }
    echo(json.dumps(figures))
    return 1 if failed or run.quiet or run.empty or len(run.rows) != len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
