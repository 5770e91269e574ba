"""`demo`: the command, and its reaction to signals."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from devstack.errors import DevstackError
from ops.console import console
from ops.demo.director import Director, Options
from ops.errors import OpsError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(
    orders: Annotated[int, typer.Option(envvar="ORDERS", min=1, help="Number of orders.")] = 2000,
    seed: Annotated[int, typer.Option(envvar="SEED", help="Random seed. The same seed makes the same orders.")] = 20,
    kafka: Annotated[str | None, typer.Option(envvar="KAFKA", help="Broker, host:port. Default: start one.")] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of every topic.")] = 4,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the run directory with data and logs.")] = False,
) -> None:
    """Runs a shop's evening on a real broker with real services, kills one of them, and audits the result.

    Exits with 0 only if the audit finds no violation.
    """
    options = Options(orders, seed, kafka or None, partitions, keep, Path(".run") / f"demo-{os.getpid()}")
    director = Director(options, console())
    received: list[signal.Signals] = []
    try:
        succeeded = asyncio.run(_until_signal(director, received))
    except asyncio.CancelledError:
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT)) from None
    except DevstackError as error:
        raise OpsError(str(error), error.exit_code) from error
    except ExceptionGroup as errors:
        # Errors of tasks come in a group, with the errors of the tasks that they cancelled.
        failed = errors.subgroup(DevstackError)
        if failed is None:
            raise
        first = _leaf(failed)
        raise OpsError(str(first), getattr(first, "exit_code", 1)) from errors
    raise typer.Exit(0 if succeeded else 1)


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
        else:
            loop.run_in_executor(None, director.kill_all)

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await running
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
