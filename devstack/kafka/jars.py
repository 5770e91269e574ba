"""Kafka's jars: Maven downloads them once into the user's cache, and all clones share them.

A download goes to a temporary folder that is renamed when it is complete. The jars run with the user's rights, so each
start of a broker compares them with the checksums in jars.sha256 (55 MB, 0.2 s). `python -m devstack.kafka.jars`
downloads the versions of pom.xml and prints the checksums for that file.
"""

from __future__ import annotations

import contextlib
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

from devstack.errors import BrokerFailed, MissingTool
from devstack.kafka import tools
from devstack.supervision.process import Process
from devstack.supervision.waiting import wait_for

POM = Path(__file__).with_name("pom.xml")
SUMS = Path(__file__).with_name("jars.sha256")
_FETCH_S = 900.0
_ELSEWHERE = "set XDG_CACHE_HOME to a directory that you may write, or KAFKA=host:port to use a broker of your own."

log = logging.getLogger(__name__)


def home() -> Path:
    """Our directory in the user's cache. It may be deleted at any time. Raises MissingTool without a home directory."""
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache).absolute() / "groupbuy"
    with contextlib.suppress(RuntimeError):
        # Python takes an empty HOME for the root directory.
        if (found := Path.home()) != Path("/"):
            return found / ".cache" / "groupbuy"
    raise MissingTool(f"A local Kafka needs a directory for its jars, and this user has no home: {_ELSEWHERE}")


def folder() -> Path:
    """The folder for this version of the jars; it may not exist yet."""
    return home() / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}"


def missing() -> bool:
    """Whether `resolve` has to download the jars. Raises MissingTool without a home directory."""
    try:
        return not folder().is_dir()
    except OSError:
        return True


def resolve(cancel: threading.Event | None = None) -> Path:
    """The folder of jars, after a download if it does not exist.

    One process downloads while others wait. Raises BrokerFailed if Maven fails or a checksum differs,
    MissingTool if the cache can't be used, and Cancelled once `cancel` is set.
    """
    place = folder()
    try:
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            with _locked(place.parent, cancel):
                if not place.is_dir():
                    _fetch(place, cancel)
        verify(place)
    except OSError as error:
        raise MissingTool(
            f"A local Kafka keeps its jars in {place.parent}, which can't be used ({error.strerror}): {_ELSEWHERE}"
        ) from error
    return place


def sums(place: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by name."""

    def of(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    paths = sorted(place.iterdir())
    # Hashing releases the GIL.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        return {path.name: found for path, found in zip(paths, threads.map(of, paths), strict=True)}


def verify(place: Path) -> None:
    """Raises BrokerFailed unless a folder has exactly the pinned jars."""
    lines = [line.split() for line in SUMS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pinned, found = {name: pin for pin, name in lines}, sums(place)
    wrong = sorted(name for name in pinned.keys() | found.keys() if pinned.get(name) != found.get(name))
    if wrong:
        few = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise BrokerFailed(
            f"{place}: {few} differ from {SUMS.name}. Delete the folder to download the jars again. After a change "
            f"of pom.xml, pin the new jars with `python -m {__name__}`."
        )


@contextmanager
def _locked(directory: Path, cancel: threading.Event | None) -> Iterator[None]:
    """Locks a directory. The kernel releases the lock when the process ends, and no file is left."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        if not wait_for(lambda: try_lock(handle), timeout_s=_FETCH_S, cancel=cancel, every_s=0.2):
            raise BrokerFailed(f"another process has been downloading Kafka to {directory} for {_FETCH_S:.0f} s")
        yield
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Locks an open file or directory for this process. Returns False if another process has the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fetch(place: Path, cancel: threading.Event | None) -> None:
    """Downloads and verifies the jars, then renames their folder to `place`."""

    def install(jars: Path) -> None:
        verify(jars)
        _install(jars, place)

    _download(place, cancel, install)


def _download(place: Path, cancel: threading.Event | None, use: Callable[[Path], None]) -> None:
    """Downloads the jars to a temporary folder beside `place`, calls `use` with it, and deletes it."""
    log.info("downloading Kafka's jars with Maven to %s; this happens once", place)
    beside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    jars = beside / "jars"
    jars.mkdir()
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    maven = Process(command, log=beside / "maven.log", cwd=beside, environment=tools.maven_environment())
    try:
        maven.start()
        ended = wait_for(lambda: not maven.running, timeout_s=_FETCH_S, cancel=cancel)
        if not ended or maven.code != 0:
            raise BrokerFailed(
                "Maven could not download Kafka's jars: check its network settings (~/.m2/settings.xml), or set "
                f"KAFKA=host:port to use a broker of your own.\n{maven.tail()}"
            )
        use(jars)
    finally:
        maven.kill()
        shutil.rmtree(beside, ignore_errors=True)


def _install(jars: Path, place: Path) -> None:
    """Renames the folder to `place`, unless another process was faster."""
    try:
        jars.rename(place)
    except OSError as error:
        if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
            raise


def main() -> None:
    """Prints the checksums for jars.sha256."""

    def show(jars: Path) -> None:
        for name, found in sums(jars).items():
            print(f"{found}  {name}")

    place = folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    _download(place, None, show)


if __name__ == "__main__":
    main()
