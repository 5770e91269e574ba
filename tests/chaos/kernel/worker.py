"""One worker of the kernel's chaos test: a decider over the counting domain, until it is told to stop or dies."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

from eventlog.decider import Decider
from eventlog.processor import Connection
from eventlog.rocks import Codec
from tests.chaos.kernel.topics import topics
from tests.unit.eventlog.counting import Counter, Counting


async def work(arguments: argparse.Namespace) -> None:
    inbox, decisions = topics(arguments.tag)
    connection = Connection(arguments.kafka, arguments.instance, Path(arguments.state_dir))
    codec: Codec[Counter] = Codec("counting-1")
    decider = Decider(
        inbox.readers[0], inbox, decisions, Counting(), connection, codec, checkpoint_s=arguments.checkpoint
    )
    # A proxy that delays produce requests, and delivers some after their client was killed.
    decider.app.producer_bootstrap = arguments.producer or None
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    starting = asyncio.create_task(decider.start(arguments.partitions))
    await asyncio.wait([starting, asyncio.create_task(told.wait())], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        await told.wait()
    await decider.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("kafka", "tag", "instance", "state-dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--producer", default="")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--checkpoint", type=float, default=2.0)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for noisy in ("aiokafka", "faust", "mode"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    asyncio.run(work(parser.parse_args()))


if __name__ == "__main__":
    main()
