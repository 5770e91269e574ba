"""One worker of the kernel's chaos test, until it is told to stop or dies.

It is a decider over the counting domain, or whatever else the environment names (see copying.py).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from chassis.lifecycle.watchdog import Watchdog
from eventlog.faust import thread_checks
from eventlog.faust.transport import Transport
from eventlog.processors import base
from eventlog.processors.base import Connection, Processor
from eventlog.processors.decider import Decider
from eventlog.records.codec import Codec
from eventlog.runtime import failpoints
from tests.chaos.kernel import copying, switches
from tests.chaos.kernel.late_proxy import LateProducer
from tests.chaos.kernel.topics import topics
from tests.unit.eventlog.counting import Counter, Counting

READY = "worker ready"
#: A line that nobody takes stops the event loop; as in a service, a thread then ends the process.
STUCK_S = 15.0
ARMED_BY = "armed"


def made(arguments: argparse.Namespace) -> Processor:
    inbox, decisions = topics(arguments.tag)
    connection = Connection(arguments.kafka, arguments.instance, Path(arguments.state_dir))
    if (kind := os.environ.get(copying.KIND, copying.DECIDER)) != copying.DECIDER:
        copying.pass_steps_when_sending()
        return copying.made(kind, inbox, decisions, connection)
    codec: Codec[Counter] = Codec.of("counting-1", Counter)
    return Decider(inbox.readers[0], inbox, decisions, Counting(), connection, codec, checkpoint_s=arguments.checkpoint)


async def work(arguments: argparse.Namespace) -> None:
    Watchdog(STUCK_S).start()
    one = made(arguments)
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    if arguments.arm:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, arm, arguments.arm)
    starting = asyncio.create_task(one.start(arguments.partitions))
    await asyncio.wait([starting, asyncio.create_task(told.wait())], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        logging.info(READY)
        await told.wait()
    await one.stop()


def arm(step: str) -> None:
    failpoints.arm(step)
    logging.info("%s: %s", ARMED_BY, step)


def main(arguments: Sequence[str] | None = None) -> None:
    """Works until it is told to stop. A crash point that the environment names may have been set after the import."""
    parser = argparse.ArgumentParser()
    for name in ("kafka", "tag", "instance", "state-dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--producer", default="", help="address of a proxy that the producer goes through")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--checkpoint", type=float, default=2.0)
    parser.add_argument("--session", type=float, default=base.SESSION_S)
    parser.add_argument("--arm", default="", help="crash point that SIGUSR1 arms, as in EVENTLOG_FAILPOINT")
    parser.add_argument("--stop-at", default="", help="crash point at which it is told to stop instead of killed")
    given = parser.parse_args(arguments)
    os.environ.setdefault(thread_checks.VARIABLE, "1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for noisy in ("aiokafka", "faust", "mode"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if given.producer:
        LateProducer.address = given.producer
        Transport.Producer = LateProducer
    base.SESSION_S = given.session
    if given.stop_at:
        failpoints.arm(given.stop_at, signal.SIGTERM)
    if crash_at := os.environ.get(failpoints.VARIABLE):
        failpoints.arm(crash_at)
    switches.switch_off_what_is_named()
    asyncio.run(work(given))


if __name__ == "__main__":
    main()
