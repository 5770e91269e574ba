"""Runs the evening from the first process to the last check: start, orders, view, a killed service, results, audit.

The run succeeds if the audit finds nothing, no call had an unexpected error, and the killed service was restarted.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.live import Live
from rich.text import Text

from chassis.rpc.client_config import channel_options
from devstack import addresses
from devstack.product import CONSOLE
from ops.audit import Marks, NotQuiet, Report, audit, marks, wait_quiet
from ops.demo import kept
from ops.demo.board import TOPICS, Board
from ops.demo.highlights import Kill, highlights, link
from ops.demo.history import Recorder
from ops.demo.plan import Evening, Plot, plan
from ops.demo.player import Player, Tally
from ops.demo.screen.results import print_results
from ops.demo.screen.startup import Startup
from ops.demo.screen.view import FRAMES_PER_SECOND, View, animated
from ops.demo.stage import Stage
from ops.log.reader import Reader
from ops.terminal.rich_console import labelled

#: The service that is killed.
VICTIM = "groups"
QUIET_WITHIN_S = 60.0
#: The interval of lines of progress, for output that is not redrawn.
LINE_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command."""

    orders: int
    seed: int
    kafka: str | None
    partitions: int
    keep: bool
    run_dir: Path
    #: The file for the history of the evening; None for none.
    record: Path | None = None


class Director:
    """One run of the demo."""

    def __init__(self, options: Options, console: Console) -> None:
        self._options = options
        self._console = console
        self._evening: Evening = plan(options.orders, options.seed)
        self._run_dir = options.run_dir
        self._stage = Stage(options.run_dir, options.kafka, options.partitions)
        self._tally = Tally()
        self._run = uuid4()
        self._board = Board({f"{o.id}-{self._run.hex[:6]}": o.title for o in self._evening.offers})
        self._view = View(self._evening, self._board, self._tally, self._stage)
        self._recorder = Recorder()
        self._report: Report | None = None
        self._kill: Kill | None = None

    def kill_all(self) -> None:
        """Kills all processes. May be called from any thread."""
        self._stage.kill_all()

    async def run(self) -> bool:
        """Runs the demo and cleans up. Returns whether it succeeded."""
        succeeded = interrupted = False
        try:
            succeeded = await self._in_stage()
        except (asyncio.CancelledError, BrokenPipeError):
            interrupted = True
            raise
        except ExceptionGroup as errors:
            interrupted = errors.subgroup(BrokenPipeError) is not None
            raise
        finally:
            self._clean_up(succeeded or interrupted, keep=succeeded)
        if succeeded:
            self._print_stories()
        return succeeded

    def stopping(self, signal_name: str) -> None:
        """Prints that a signal has arrived and that processes are being stopped."""
        self._print(f"{signal_name}: stopping all processes in order; a second signal kills them")

    def stopped(self, signal_name: str) -> None:
        """Prints how far the evening was when a signal ended it. Call after `run`."""
        self._print(
            f"Stopped by {signal_name} after {self._tally.placed:,} of {self._evening.orders:,} orders. "
            "All processes of the demo have ended."
        )

    def figures(self) -> dict[str, Any]:
        """The result as one object for programs. Amounts are in minor units by currency."""
        audited = json.loads(self._report.json()) if self._report is not None else None
        return {
            "orders": self._tally.placed,
            "endings": {one.name.lower(): count for one, count in self._board.endings().items()},
            "groups": {state.name.lower(): count for state, count in self._board.states().items()},
            "solo_purchases": len(self._board.solo()),
            "money_minor": {c: {**asdict(sums), "net": sums.net} for c, sums in self._board.money().items()},
            "unexpected": sorted(set(self._tally.errors)),
            "audit": audited,
        }

    def _print(self, line: str) -> None:
        # On a terminal lines end between words, and no amount is split. In a file each line stays one.
        self._console.print(line, soft_wrap=not self._console.is_terminal)

    def _clean_up(self, remove: bool, *, keep: bool) -> None:
        """Removes the run directory, or keeps it: with --keep, after a failure, and as the last evening."""
        run_dir = self._run_dir
        empty = not any(path.is_file() for path in run_dir.rglob("*"))
        if keep and not self._options.keep and self._options.kafka is None:
            self._run_dir = kept.keep(run_dir)
        elif empty or (remove and not self._options.keep):
            shutil.rmtree(run_dir, ignore_errors=True)
            with suppress(OSError):
                run_dir.parent.rmdir()  # fails if it has other files
        elif run_dir.exists():
            self._print(f"Logs and data are in {run_dir}.")

    def _print_stories(self) -> None:
        """Prints the stories that are worth reading, and how to open them."""
        found = highlights(self._board, self._kill)
        if not found:
            return
        kafka = self._options.kafka
        address = f"127.0.0.1:{addresses.choose()[CONSOLE]}"
        self._console.print()
        self._print("The stories of the evening that are worth reading:")
        for one in found:
            self._print(f"  {one.title}: {one.why}")
            self._console.print(Text(f"    {link(address, one.group.key)}"), soft_wrap=True)
        if kafka is None:
            opened = f"make up KEEP=1 UP='--run-dir {self._run_dir}'"
        else:
            settings = {"KAFKA": kafka, "LISTEN": address, "INSECURE": "true"}
            variables = " ".join(f"GROUPBUY_CONSOLE_{name}={value}" for name, value in settings.items())
            opened = f"{variables} .venv/bin/python -m console"
        self._print("This command opens them:")
        self._console.print(Text(f"  {opened}"), soft_wrap=True)

    async def _in_stage(self) -> bool:
        plots = self._evening.plots()
        solo = plots.pop(Plot.SOLO, 0)
        stories = ", ".join(f"{count}× {plot.value}" for plot, count in sorted(plots.items(), key=lambda one: -one[1]))
        self._print(
            f"The script has {self._evening.orders:,} orders (seed {self._options.seed}): {solo:,} solo purchases, and "
            f"{plots.total():,} groups" + (f", planned as {stories}." if stories else ".")
        )
        async with AsyncExitStack() as stack:
            began_s = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                startup = tasks.create_task(Startup(self._console, self._stage.waiting_for).run())
                stage = await stack.enter_async_context(self._stage)
                startup.cancel()
            processes = ", ".join(stage.states())
            self._print(f"Started in {time.monotonic() - began_s:.0f} s: {processes}.")
            since = await marks(stage.kafka) if self._options.kafka else None
            await self._show(since)
            self._print(f"The evening took {self._view.elapsed()}. In its middle {self._view.incident}.")
            print_results(self._console, self._board, self._tally)
            self._print(self._about_the_audit())
            self._report = report = await audit(
                stage.kafka, stage.provider, settled=True, acknowledged=self._tally.acknowledged, since=since
            )
            report.print(self._console)
            return self._verdict(report.clean and not report.findings.alarms)

    def _about_the_audit(self) -> str:
        groups, solo = len(self._board.pooled()), len(self._board.solo())
        return (
            "The audit reads all topics again and shares no code with the services. In the log a solo purchase is a "
            f"group of one: {groups:,} groups + {solo:,} solo purchases = {groups + solo:,} groups of the audit."
        )

    def _verdict(self, clean: bool) -> bool:
        for error in sorted(set(self._tally.errors)):
            count = self._tally.errors.count(error)
            self._console.print(labelled("unexpected", "bold red", f"{count}× {error}"), soft_wrap=True)
        came_back = self._stage.states()[VICTIM].restarts > 0
        if not came_back:
            self._console.print(labelled("unexpected", "bold red", f"{VICTIM} was not killed or not restarted"))
        succeeded = clean and came_back and not self._tally.errors
        words = Text.assemble(
            ("Zero differences", "bold green"), ": every order has one final state, every amount is accounted for."
        )
        self._console.print(words if succeeded else Text("The demo failed.", style="bold red"))
        return succeeded

    async def _show(self, since: Marks | None) -> None:
        """Plays the evening, draws the view, and waits until everything is settled."""
        async with AsyncExitStack() as stack:
            options = channel_options.options()
            orders = await stack.enter_async_context(
                grpc.aio.insecure_channel(self._stage.address("orders"), options=options)
            )
            groups = await stack.enter_async_context(
                grpc.aio.insecure_channel(self._stage.address("groups"), options=options)
            )
            player = Player(orders, groups, self._run, self._tally)
            reader = await stack.enter_async_context(Reader(self._stage.kafka, TOPICS))
            if since is not None:
                reader.seek(since)
            await player.open_shop(self._evening)
            self._view.started_s = time.time()
            async with asyncio.TaskGroup() as tasks:
                background = [tasks.create_task(self._follow(reader)), tasks.create_task(self._draw())]
                kill = tasks.create_task(self._kill_victim())
                self._view.stage = "orders arrive"
                await player.play(self._evening)
                await kill
                self._view.stage = "the last groups close"
                await self._quiet(since)
                # Reads the last records for the tables.
                await reader.read_to_end(self._take)
                for task in background:
                    task.cancel()
            self._view.stage = "over"
            if self._options.record is not None:
                self._recorder.write(self._options.record, self._view)

    def _take(self, topic: str, records: Iterable[Any]) -> None:
        taken = list(records)
        self._board.take(topic, taken)
        if self._options.record is not None:
            self._recorder.take(topic, taken)

    async def _quiet(self, since: Marks | None) -> None:
        try:
            await wait_quiet(self._stage.kafka, deadline_s=QUIET_WITHIN_S, since=since)
        except NotQuiet as error:
            # The audit that follows reports all pending work.
            self._tally.errors.append(str(error))

    async def _follow(self, reader: Reader) -> None:
        while True:
            try:
                await reader.read_to_end(self._take)
            except KafkaError as error:
                self._view.incident = f"the broker does not answer: {type(error).__name__}"
            if self._options.record is not None:
                self._recorder.frame(self._view)
            await asyncio.sleep(1 / FRAMES_PER_SECOND)

    async def _draw(self) -> None:
        if not animated(self._console):
            await self._print_progress()
        # Drawn in this task: a drawing thread would read the board while it changes.
        with Live(
            self._view, console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop"
        ) as live:
            while True:
                self._stage.check()
                live.refresh()
                await asyncio.sleep(1 / FRAMES_PER_SECOND)

    async def _print_progress(self) -> None:
        printed_s = 0.0
        while True:
            self._stage.check()
            if time.monotonic() - printed_s >= LINE_INTERVAL_S:
                printed_s = time.monotonic()
                self._print(self._view.progress())
            await asyncio.sleep(1 / FRAMES_PER_SECOND)

    async def _kill_victim(self) -> None:
        """Kills a service in the middle of the evening."""
        await asyncio.sleep(self._evening.kill_at_s)
        pid = self._stage.kill(VICTIM)
        killed_s, killed_ms = time.monotonic(), int(time.time() * 1000)
        self._show_incident(f"the demo killed {VICTIM} (pid {pid}) with SIGKILL")
        await self._stage.wait_restarted(VICTIM, pid)
        self._kill = Kill(VICTIM, killed_ms)
        self._show_incident(
            f"the demo killed {VICTIM} with SIGKILL; it served again after {time.monotonic() - killed_s:.1f} s"
        )

    def _show_incident(self, what: str) -> None:
        self._view.incident = what
        if not animated(self._console):
            self._print(f"  {what}")
