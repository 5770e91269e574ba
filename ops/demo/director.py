"""Runs the evening from the first process to the last check: stage, player, view, a killed service, results, audit.

The run succeeds if the audit finds nothing, no call had an unexpected error, and the killed service was restarted.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import grpc
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.live import Live
from rich.text import Text

from chassis.rpc import channel_options
from ops.audit import Marks, NotQuiet, audit, marks, wait_quiet
from ops.console import labelled
from ops.demo.board import TOPICS, Board
from ops.demo.plan import Evening, plan
from ops.demo.player import Player, Tally
from ops.demo.results import print_results
from ops.demo.stage import Stage
from ops.demo.view import FRAMES_PER_SECOND, View
from ops.log.reader import Reader

#: The service that is killed.
VICTIM = "groups"
QUIET_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command."""

    orders: int
    seed: int
    kafka: str | None
    partitions: int
    keep: bool
    run_dir: Path


class Director:
    """One run of the demo."""

    def __init__(self, options: Options, console: Console) -> None:
        self._options = options
        self._console = console
        self._evening: Evening = plan(options.orders, options.seed)
        self._stage = Stage(options.run_dir, options.kafka, options.partitions)
        self._tally = Tally()
        self._run = uuid4()
        self._board = Board({f"{o.id}-{self._run.hex[:6]}": o.title for o in self._evening.offers})
        self._view = View(self._evening, self._board, self._tally, self._stage)

    def kill_all(self) -> None:
        """Kills all processes. May be called from any thread."""
        self._stage.kill_all()

    async def run(self) -> bool:
        """Runs the demo and cleans up. Returns whether it succeeded."""
        succeeded = interrupted = False
        try:
            succeeded = await self._in_stage()
        except asyncio.CancelledError:
            interrupted = True
            raise
        finally:
            self._clean_up(succeeded or interrupted)
        return succeeded

    def _clean_up(self, remove: bool) -> None:
        run_dir = self._options.run_dir
        empty = not any(path.is_file() for path in run_dir.rglob("*"))
        if empty or (remove and not self._options.keep):
            shutil.rmtree(run_dir, ignore_errors=True)
            with suppress(OSError):
                run_dir.parent.rmdir()  # fails if it has other files
        elif run_dir.exists():
            self._console.print(f"logs and data are in {run_dir}", highlight=False, soft_wrap=True)

    async def _in_stage(self) -> bool:
        options, plots = self._options, self._evening.plots()
        stories = ", ".join(f"{count} {plot.value}" for plot, count in sorted(plots.items(), key=lambda one: -one[1]))
        self._console.print(
            f"An evening of {self._evening.orders:,} orders in {len(self._evening.parties):,} groups, "
            f"seed {options.seed}: {stories}",
            highlight=False,
            soft_wrap=True,
        )
        self._console.print("starting broker, provider and services", highlight=False)
        async with self._stage as stage:
            since = await marks(stage.kafka) if options.kafka else None
            await self._show(since)
            self._console.print(f"the evening took {time.monotonic() - self._view.started_s:.0f} s", highlight=False)
            print_results(self._console, self._board, self._tally)
            report = await audit(
                stage.kafka, stage.provider, settled=True, acknowledged=self._tally.acknowledged, since=since
            )
            report.print(self._console)
            return self._verdict(report.clean and not report.findings.alarms)

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
            self._view.stage = "opening the shop"
            await player.open_shop(self._evening)
            self._view.started_s = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                background = [tasks.create_task(self._follow(reader)), tasks.create_task(self._draw())]
                kill = tasks.create_task(self._kill_victim())
                self._view.stage = "the evening"
                await player.play(self._evening)
                await kill
                self._view.stage = "the last groups close"
                await self._quiet(since)
                # Reads the last records for the tables.
                await reader.read_to_end(self._board.take)
                for task in background:
                    task.cancel()

    async def _quiet(self, since: Marks | None) -> None:
        try:
            await wait_quiet(self._stage.kafka, deadline_s=QUIET_WITHIN_S, since=since)
        except NotQuiet as error:
            # The audit that follows reports all pending work.
            self._tally.errors.append(str(error))

    async def _follow(self, reader: Reader) -> None:
        while True:
            try:
                await reader.read_to_end(self._board.take)
            except KafkaError as error:
                self._view.incident = f"the broker does not answer: {type(error).__name__}"
            await asyncio.sleep(1 / FRAMES_PER_SECOND)

    async def _draw(self) -> None:
        if not self._console.is_terminal:
            while True:
                self._stage.check()
                self._view.print_plain(self._console)
                await asyncio.sleep(1 / FRAMES_PER_SECOND)
        # Drawn in this task: a drawing thread would read the board while it changes.
        with Live(self._view, console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                self._stage.check()
                live.refresh()
                await asyncio.sleep(1 / FRAMES_PER_SECOND)

    async def _kill_victim(self) -> None:
        """Kills a service in the middle of the evening."""
        await asyncio.sleep(self._evening.kill_at_s)
        pid = self._stage.kill(VICTIM)
        killed_s = time.monotonic()
        self._report(f"{VICTIM} (pid {pid}) was killed with SIGKILL")
        await self._stage.wait_restarted(VICTIM, pid)
        self._report(f"{VICTIM} was killed with SIGKILL and serves again after {time.monotonic() - killed_s:.1f} s")

    def _report(self, what: str) -> None:
        self._view.incident = what
        if not self._console.is_terminal:
            self._console.print(f"  {what}", highlight=False)
