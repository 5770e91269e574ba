"""`demo`: the command, and its reaction to signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from devstack.errors import DevstackError
from ops.demo.director import Director, Options
from ops.errors import OpsError
from ops.terminal.output import Json, Output
from ops.terminal.rich_console import WIDTH_OF_FILES, SafeConsole

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(
    orders: Annotated[int, typer.Option(envvar="ORDERS", min=1, help="Number of orders.")] = 2000,
    seed: Annotated[int, typer.Option(envvar="SEED", help="Random seed. The same seed makes the same orders.")] = 20,
    kafka: Annotated[str | None, typer.Option(envvar="KAFKA", help="Broker, host:port. Default: start one.")] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of every topic.")] = 4,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the run directory with data and logs.")] = False,
    record: Annotated[
        Path | None, typer.Option(help="Write the history of the evening to a file, for pictures.", dir_okay=False)
    ] = None,
    json: Json = False,
) -> None:
    """Runs a shop's evening on a real broker with real services, kills one of them, and audits the result.

    With --json the view and the tables go to standard error.

    Reads nothing, or with --kafka the broker's topics.

    Changes the run directory, or with --kafka the topics of that broker. The log of the last evening stays in
    .run/evening, and the end prints links to its most interesting stories in the console, and how to open them.

    Exit codes: 0 the audit finds no violation, 1 it finds one, 2 cannot run, 130 Ctrl-C.

    Example: groupbuy-ops demo --orders 500
    """
    options = Options(orders, seed, kafka or None, partitions, keep, Path(".run") / f"demo-{os.getpid()}", record)
    out = Output(json)
    director = Director(options, _console(error_stream=json))
    received: list[signal.Signals] = []
    try:
        succeeded = asyncio.run(_until_signal(director, received))
    except asyncio.CancelledError:
        number = received[0] if received else signal.SIGINT
        with suppress(BrokenPipeError):
            director.stopped(_name(number))
        raise typer.Exit(128 + number) from None
    except DevstackError as error:
        raise OpsError(str(error), error.exit_code) from error
    except ExceptionGroup as errors:
        # Errors of tasks come in a group, with the errors of the tasks that they cancelled.
        failed = errors.subgroup(DevstackError)
        if failed is None:
            if errors.subgroup(BrokenPipeError) is not None:
                raise BrokenPipeError from errors
            raise
        first = _leaf(failed)
        raise OpsError(str(first), getattr(first, "exit_code", 1)) from errors
    out.record(director.figures())
    raise typer.Exit(0 if succeeded else 1)


class _Console(SafeConsole):
    """Raises BrokenPipeError. Rich's SystemExit would leave the event loop before the processes are stopped."""

    def on_broken_pipe(self) -> None:
        """Rich's hook."""
        raise BrokenPipeError


def _console(*, error_stream: bool) -> SafeConsole:
    stream = sys.stderr if error_stream else sys.stdout
    return _Console(stderr=error_stream, width=None if stream.isatty() else WIDTH_OF_FILES)


def _name(number: signal.Signals) -> str:
    return "Ctrl-C" if number is signal.SIGINT else number.name


def _leaf(group: ExceptionGroup[DevstackError]) -> DevstackError:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, ExceptionGroup) else first


async def _until_signal(director: Director, received: list[signal.Signals]) -> bool:
    """Runs the demo. The first signal stops everything in order, each later one kills all processes."""
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(director.run())

    def on_signal(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            running.cancel()
            with suppress(BrokenPipeError):
                director.stopping(_name(number))
        else:
            loop.run_in_executor(None, director.kill_all)

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await running
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
