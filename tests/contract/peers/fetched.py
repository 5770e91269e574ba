"""Peers are fetched once, into .run/peers."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from protos.generate import ROOT

FOLDER = ROOT / ".run" / "peers"


class PeerMissing(Exception):
    """The peer can't be had here. The message is a sentence with the reason."""


@contextmanager
def fetching(name: str) -> Iterator[None]:
    """Lets one process at a time fetch a peer: tests run in several."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
