"""Kafka's jars, fetched once by Maven into the user's cache and shared by all clones.

Must never leave a folder that looks complete and is not: jars are gathered beside their place and renamed into it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.errors import BrokerFailed
from deploy.process import Process
from deploy.waiting import wait_for

POM = Path(__file__).with_name("pom.xml")
_FETCH_S = 900.0

log = logging.getLogger(__name__)


def home() -> Path:
    """Our part of the user's cache directory: what is worth keeping between runs, and may be deleted."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "groupbuy"


def folder() -> Path:
    """Where this version of the jars is, or will be."""
    return home() / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}"


def resolve(cancel: threading.Event | None = None) -> Path:
    """The folder of jars; fetched first where it is not there yet.

    One process fetches while others wait. Raises BrokerFailed where Maven can't, Cancelled once `cancel` is set.
    """
    place = folder()
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with _turn(place.parent, cancel):
        if not place.is_dir():
            _fetch(place, cancel)
    return place


@contextmanager
def _turn(directory: Path, cancel: threading.Event | None) -> Iterator[None]:
    """Holds a lock on a directory: kept by the kernel, so it ends with its process and leaves no file."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        if not wait_for(lambda: try_lock(handle), timeout_s=_FETCH_S, cancel=cancel, every_s=0.2):
            raise BrokerFailed(f"another process has been fetching Kafka into {directory} for {_FETCH_S:.0f} s")
        yield
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Locks an open file or directory for this process. Returns False where another one holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fetch(place: Path, cancel: threading.Event | None) -> None:
    log.info("fetching Kafka's jars with Maven into %s, once", place)
    beside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    jars = beside / "jars"
    jars.mkdir()
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    maven = Process(command, log=beside / "maven.log", cwd=beside)
    try:
        maven.start()
        ended = wait_for(lambda: not maven.running, timeout_s=_FETCH_S, cancel=cancel)
        if not ended or maven.code != 0:
            raise BrokerFailed(
                "Maven could not fetch Kafka's jars: check its network settings (~/.m2/settings.xml), or set "
                f"KAFKA=host:port to use a broker of your own.\n{maven.tail()}"
            )
        _put(jars, place)
    finally:
        maven.kill()
        shutil.rmtree(beside, ignore_errors=True)


def _put(made: Path, place: Path) -> None:
    """Renames into place; where somebody was quicker, theirs stays."""
    try:
        made.rename(place)
    except OSError as error:
        if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
            raise
