"""The worker of bench-recover: the product's group decider, until it is killed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from bench.command import worker_parser
from bench.fold.topics import DECIDER, INBOX, LOG
from eventlog.processors.base import Connection
from eventlog.processors.decider import Decider
from eventlog.records.codec import Codec
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State
from services.groups.processors.codec import decode, encode


async def work(kafka: str, partitions: int, state_dir: Path) -> None:
    """Runs the decider until the process is killed."""
    codec: Codec[State] = Codec("bench-2", encode, decode)
    decider = Decider(DECIDER, INBOX, LOG, GroupDomain(), Connection(kafka, "r0", state_dir), codec, checkpoint_s=5.0)
    await decider.start(partitions)
    await asyncio.Event().wait()


def main() -> None:
    """Runs the worker."""
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(work(**vars(worker_parser().parse_args())))


if __name__ == "__main__":
    main()
