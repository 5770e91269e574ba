"""Kafka's jars, fetched once by Maven into the user's cache and shared by all clones.

Jars are gathered beside their place and renamed into it, so a folder is complete or not there. They run with the rights
of whoever starts a broker, so each start compares them with the checksums in jars.sha256: 55 MB, a fifth of a second.
`python -m devstack.kafka.jars` fetches what pom.xml resolves to and prints the checksums for that file.
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from devstack.errors import BrokerFailed
from devstack.supervision.process import Process
from devstack.supervision.waiting import wait_for

POM = Path(__file__).with_name("pom.xml")
SUMS = Path(__file__).with_name("jars.sha256")
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

    One process fetches while others wait. Raises BrokerFailed where Maven can't and where a jar is not the pinned one,
    Cancelled once `cancel` is set.
    """
    place = folder()
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with _turn(place.parent, cancel):
            if not place.is_dir():
                _fetch(place, cancel)
    verify(place)
    return place


def sums(place: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by name."""

    def of(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    paths = sorted(place.iterdir())
    # Hashing lets go of the interpreter.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        return {path.name: found for path, found in zip(paths, threads.map(of, paths), strict=True)}


def verify(place: Path) -> None:
    """Raises BrokerFailed unless a folder holds exactly the pinned jars."""
    lines = [line.split() for line in SUMS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pinned, found = {name: pin for pin, name in lines}, sums(place)
    wrong = sorted(name for name in pinned.keys() | found.keys() if pinned.get(name) != found.get(name))
    if wrong:
        few = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise BrokerFailed(
            f"{place}: {few} differ from {SUMS.name}. Delete the folder to have the jars fetched again; after a change "
            f"of pom.xml pin the new ones with `python -m {__name__}`."
        )


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
    """Fetches, verifies and puts in place."""

    def put(jars: Path) -> None:
        verify(jars)
        _put(jars, place)

    _fetched(place, cancel, put)


def _fetched(place: Path, cancel: threading.Event | None, take: Callable[[Path], None]) -> None:
    """Has Maven fetch into a folder beside a place, which `take` gets, and which is gone afterwards."""
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
        take(jars)
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


def main() -> None:
    """Prints what jars.sha256 should hold."""

    def show(jars: Path) -> None:
        for name, found in sums(jars).items():
            print(f"{found}  {name}")

    place = folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    _fetched(place, None, show)


if __name__ == "__main__":
    main()
