"""`demo`: the command line of a shop's evening, and what a signal does to it."""

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
    orders: Annotated[int, typer.Option(envvar="ORDERS", min=1, help="Orders of the evening.")] = 2000,
    seed: Annotated[int, typer.Option(envvar="SEED", help="The same seed gives the same evening.")] = 20,
    kafka: Annotated[
        str | None, typer.Option(envvar="KAFKA", help="A broker of your own, host:port. Else one is started.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Of every topic.")] = 4,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the run directory with data and logs.")] = False,
) -> None:
    """Plays a shop's evening on a real broker with real services, kills one of them, and checks every cent.

    Exit 0 only if the audit is clean.
    """
    options = Options(orders, seed, kafka or None, partitions, keep, Path(".run") / f"demo-{os.getpid()}")
    director = Director(options, console())
    received: list[signal.Signals] = []
    try:
        good = asyncio.run(_until_signal(director, received))
    except asyncio.CancelledError:
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT)) from None
    except DevstackError as error:
        raise OpsError(str(error), error.exit_code) from error
    except ExceptionGroup as errors:
        # What goes wrong under the view comes in a group, together with what that tore down.
        failed = errors.subgroup(DevstackError)
        if failed is None:
            raise
        first = _leaf(failed)
        raise OpsError(str(first), getattr(first, "exit_code", 1)) from errors
    raise typer.Exit(0 if good else 1)


def _leaf(group: ExceptionGroup[DevstackError]) -> DevstackError:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, ExceptionGroup) else first


async def _until_signal(director: Director, received: list[signal.Signals]) -> bool:
    """Runs it; the first signal lets everything stop in order, each later one ends all processes at once."""
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(director.run())

    def on_signal(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            running.cancel()
        else:
            loop.run_in_executor(None, director.hurry)

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await running
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
