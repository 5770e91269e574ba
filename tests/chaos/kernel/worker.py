"""One worker process of the kernel's chaos test: a decider over the counting domain, or what $CHAOS_WORKER names.

See copying.py for the other kinds.
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
#: Seconds after which the watchdog ends a process whose event loop is blocked, for example at a full output pipe.
STUCK_S = 15.0
ARMED_BY = "armed"


def make_processor(arguments: argparse.Namespace) -> Processor:
    inbox, decisions = topics(arguments.tag)
    connection = Connection(arguments.kafka, arguments.instance, Path(arguments.state_dir))
    if (kind := os.environ.get(copying.KIND, copying.DECIDER)) != copying.DECIDER:
        copying.add_producer_failpoints()
        return copying.make_processor(kind, inbox, decisions, connection)
    codec: Codec[Counter] = Codec.of("counting-1", Counter)
    return Decider(inbox.readers[0], inbox, decisions, Counting(), connection, codec, checkpoint_s=arguments.checkpoint)


async def work(arguments: argparse.Namespace) -> None:
    Watchdog(STUCK_S).start()
    one = make_processor(arguments)
    stop_requested = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop_requested.set)
    if arguments.arm:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, arm, arguments.arm)
    starting = asyncio.create_task(one.start(arguments.partitions))
    await asyncio.wait([starting, asyncio.create_task(stop_requested.wait())], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        logging.info(READY)
        await stop_requested.wait()
    await one.stop()


def arm(step: str) -> None:
    failpoints.arm(step)
    logging.info("%s: %s", ARMED_BY, step)


def main(arguments: Sequence[str] | None = None) -> None:
    """Works until SIGTERM. Arms the failpoint that the environment names, which may have been set after the import."""
    parser = argparse.ArgumentParser()
    for name in ("kafka", "tag", "instance", "state-dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--producer", default="", help="host:port of a proxy for the producer's connections")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--checkpoint", type=float, default=2.0)
    parser.add_argument("--session", type=float, default=base.SESSION_S)
    parser.add_argument("--arm", default="", help="crash point that SIGUSR1 arms, as in EVENTLOG_FAILPOINT")
    parser.add_argument("--stop-at", default="", help="failpoint at which the worker gets SIGTERM instead of SIGKILL")
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
    switches.switch_off_selected()
    asyncio.run(work(given))


if __name__ == "__main__":
    main()
