"""`--workers N`: runs N processes of a service on one host and restarts those that fail.

A process is one event loop, so a host with several cores runs several processes. Worker n has the settings of the
launcher, with an instance name, addresses and a state directory of its own: each port is PORT_STEP * n higher.

SIGTERM and Ctrl-C drain all workers. A worker that ends with 0 alone, with 70 or by a signal is restarted after a
back-off; SIGTERM to one worker replaces it, for a new version. A worker that ends with 2 has a wrong setting, as have
the others then, so the launcher stops them and ends with 2. After a stop it ends with the highest code of its workers;
a worker that a signal ended counts as 128 and the signal. Workers do not outlive the launcher on Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from chassis.lifecycle.broker_health import BrokerHealth
from chassis.lifecycle.settings import EXIT_CODE as BAD_SETTING
from chassis.lifecycle.settings import ServiceSettings, host_and_port
from chassis.lifecycle.variables import parse_arguments
from chassis.telemetry import logging
from eventlog.core.errors import TopicsDiffer
from eventlog.runtime.abort import EXIT_CODE as CRASH
from shared_kernel.topics import ALL

log = structlog.stdlib.get_logger(__name__)

#: Difference of the ports of two workers: the default ports of the services are next to each other.
PORT_STEP = 10
MAX_WORKERS = 1_000
#: Back-off between restarts, in seconds. A worker that ran for HEALTHY_S resets it.
FIRST_PAUSE_S, MAX_PAUSE_S, HEALTHY_S = 0.2, 5.0, 10.0
POLL_INTERVAL_S = 0.05
#: Seconds in addition to twice `drain_seconds` after which a worker that does not end is killed. Its own watchdog ends
#: it sooner, unless it is frozen.
STOP_SLACK_S = 10.0
_PR_SET_PDEATHSIG = 1

OPTIONS = """
Options:

--workers N
    Run N processes of this service on this host, and restart those that fail. They have the
    instance names INSTANCE-0, INSTANCE-1 and so on, state directories of their own, and ports that
    are 10 higher each. Webhooks arrive at the first one only.
--hosts N
    Number of hosts that each run so many workers. Default 1. The number of all workers has to
    divide the number of partitions.
"""


class Asked(NamedTuple):
    """The arguments of a launcher."""

    workers: int
    hosts: int


def parse(settings: type[ServiceSettings], module: str, arguments: Sequence[str] | None = None) -> Asked | None:
    """Reads the command line of a service. Returns None without --workers.

    `--help` prints the reference of options and variables and exits with 0. An invalid argument exits with 2.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", add_help=False, allow_abbrev=False)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--hosts", type=int, default=1)
    found, others = parser.parse_known_args(arguments)
    try:
        parse_arguments(settings, module, others)
    except SystemExit as ending:
        if not ending.code:
            sys.stdout.write(OPTIONS)
        raise
    if found.workers is None:
        if found.hosts != 1:
            parser.error("--hosts needs --workers")
        return None
    if not 1 <= found.workers <= MAX_WORKERS or not 1 <= found.hosts <= MAX_WORKERS:
        parser.error(f"--workers and --hosts take 1 to {MAX_WORKERS}")
    return Asked(found.workers, found.hosts)


def uneven(asked: Asked, partitions: int) -> str:
    """The reason why so many workers do not share the partitions evenly; empty if they do."""
    count = asked.workers * asked.hosts
    if partitions % count == 0:
        return ""
    fits = [n for n in range(1, min(partitions, MAX_WORKERS) + 1) if partitions % (n * asked.hosts) == 0]
    each = f" on each of {asked.hosts} hosts" if asked.hosts > 1 else ""
    instead = f"use {', '.join(map(str, fits))}" if fits else "use another number of hosts"
    return (
        f"{asked.workers} workers{each} do not divide {partitions} partitions: some would own more than others, and "
        f"the fullest one is the limit; {instead}"
    )


def variables_of(settings: ServiceSettings, number: int) -> dict[str, str]:
    """The variables in which worker `number` differs from the launcher."""
    found = {
        "instance": f"{settings.instance}-{number}",
        "state_dir": str(settings.state_dir / str(number)),
        "listen": _shifted(settings.listen, number),
        "advertise": _shifted(settings.address, number),
    }
    if settings.metrics_listen:
        found["metrics_listen"] = _shifted(settings.metrics_listen, number)
    if number and hasattr(settings, "webhook_listen"):
        # Providers have one address. Any process may take webhooks: they go through the log.
        found["webhook_listen"] = ""
    return {settings.variable(name): value for name, value in found.items()}


def _shifted(address: str, number: int) -> str:
    host, port = host_and_port(address)
    text = f"[{host}]" if ":" in host else host
    return f"{text}:{port + PORT_STEP * number if port else 0}"


def run(settings: ServiceSettings, module: str, asked: Asked) -> int:
    """Runs the workers of a service until a signal stops them. Returns the exit code."""
    logging.configure(
        level=settings.log_level, form=settings.log_format, service=settings.service, instance=settings.instance
    )
    top = max(host_and_port(address)[1] for address in (settings.listen, settings.metrics_listen or "h:1"))
    if top + PORT_STEP * (asked.workers - 1) > 65_535:
        sys.stderr.write(f"{settings.service} can't start: {asked.workers} workers need ports above 65535\n")
        return BAD_SETTING
    try:
        partitions = asyncio.run(_partitions(settings))
    except TopicsDiffer as error:
        log.critical(f"ending with code {CRASH}: the broker's topics differ: {error}")
        return CRASH
    except KeyboardInterrupt:
        return 0
    if reason := uneven(asked, partitions):
        sys.stderr.write(f"{settings.service} can't start: {reason}\n")
        return BAD_SETTING
    command = (sys.executable, "-P", "-m", "groupbuy_settlement", module)
    workers = [(command, variables_of(settings, number)) for number in range(asked.workers)]
    return Supervision(workers, stop_within_s=2 * settings.drain_seconds + STOP_SLACK_S).run()


async def _partitions(settings: ServiceSettings) -> int:
    """The declared number of partitions, once the broker answers. Ends with KeyboardInterrupt at a signal."""
    health = BrokerHealth(settings.brokers, ALL, settings.service)
    loop, waiting = asyncio.get_running_loop(), asyncio.ensure_future(health.wait())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, waiting.cancel)
    try:
        return await waiting
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        await health.close()


@dataclass(slots=True)
class _Worker:
    number: int
    command: Sequence[str]
    variables: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    began_s: float = 0.0
    pause_s: float = 0.0
    #: When it is started again; None while it runs.
    start_at_s: float | None = 0.0
    codes: list[int] = field(default_factory=list)


class Supervision:
    """Starts the workers, restarts them and stops them. `run` once, in the main thread."""

    def __init__(self, workers: Sequence[tuple[Sequence[str], Mapping[str, str]]], *, stop_within_s: float) -> None:
        """`workers` are commands with the variables that are added to the environment."""
        self._workers = [_Worker(number, *one) for number, one in enumerate(workers)]
        self._stop_within_s = stop_within_s
        self._signals: list[int] = []
        self._wake = threading.Event()
        self._result = 0

    def run(self) -> int:
        """Returns the exit code when all workers have ended after a signal, or after one with a wrong setting."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._signals and not self._result:
                for worker in self._workers:
                    self._look_after(worker)
                self._wake.wait(POLL_INTERVAL_S)
            return self._stop()
        finally:
            for worker in self._workers:
                if worker.process is not None and worker.process.poll() is None:
                    worker.process.kill()
                    worker.process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _look_after(self, worker: _Worker) -> None:
        now_s = time.monotonic()
        if worker.start_at_s is not None:
            if now_s >= worker.start_at_s:
                self._start(worker)
            return
        assert worker.process is not None
        code = worker.process.poll()
        if code is None:
            return
        place = {"worker": worker.number, "code": shell_code(code)}
        if code == BAD_SETTING:
            log.critical("a worker's settings are wrong; stopping all", **place)
            self._result = BAD_SETTING
            return
        lived_s = now_s - worker.began_s
        worker.pause_s = (
            FIRST_PAUSE_S if lived_s >= HEALTHY_S else min(MAX_PAUSE_S, max(2 * worker.pause_s, FIRST_PAUSE_S))
        )
        worker.start_at_s = now_s + worker.pause_s
        log.warning("a worker has ended and is restarted", **place, pause_s=round(worker.pause_s, 1))

    def _start(self, worker: _Worker) -> None:
        # A process group of its own: Ctrl-C at a terminal and `tini -g` reach the launcher alone, which signals once.
        worker.process = subprocess.Popen(
            worker.command,
            env={**os.environ, **worker.variables},
            process_group=0,
            preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509 - this process has one thread
        )
        worker.began_s, worker.start_at_s = time.monotonic(), None
        log.info("a worker was started", worker=worker.number, pid=worker.process.pid)

    def _stop(self) -> int:
        running = [worker.process for worker in self._workers if worker.process is not None]
        sent, until_s = 0, time.monotonic() + self._stop_within_s
        log.info("stopping", workers=sum(one.poll() is None for one in running))
        while left := [one for one in running if one.poll() is None]:
            # A second signal ends a worker at once, as it would without a launcher.
            while sent < max(len(self._signals), 1):
                for one in left:
                    one.terminate()
                sent += 1
            if time.monotonic() > until_s:
                for one in left:
                    one.kill()
            self._wake.wait(POLL_INTERVAL_S)
        if self._result:
            return self._result
        return max((shell_code(one.returncode) for one in running), default=0)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)


def shell_code(code: int) -> int:
    """A process's exit code as a shell has it: 128 and the signal, if a signal ended it."""
    return code if code >= 0 else 128 - code


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """On Linux, a function for the child that has the kernel end it when the launcher ends."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return ask
