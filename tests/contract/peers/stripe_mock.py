"""stripe-mock, Stripe's own mock server, which validates each request against Stripe's OpenAPI: builds and runs it.

`python -m tests.contract.peers.stripe_mock` builds it and prints its path. The Go module has a pinned version and
checksum. The binary is kept in .run/peers.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.contract.peers.fetched import FOLDER, PeerMissing, fetching

MODULE = "github.com/stripe/stripe-mock"
VERSION = "v0.203.0"
#: Checksum of the module's source, as in a go.sum.
CHECKSUM = "h1:EzW7nb/fphqcAkgVRHAaC88OaAZo6SBWSl54cflDTio="
#: Seconds for a build with empty caches.
BUILD_LIMIT_S = 50
START_LIMIT_S = 20
POLL_S = 0.05


def binary() -> Path:
    """The built server; builds it first where it is missing. Raises PeerMissing."""
    built = FOLDER / f"stripe-mock-{VERSION}"
    with fetching("stripe-mock"):
        if not built.exists():
            _build(built)
    return built


def _build(built: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise PeerMissing("stripe-mock needs Go to be built, and go is not on PATH.")
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        _run(go, "install", f"{MODULE}@{VERSION}", GOBIN=folder)
        made = Path(folder) / "stripe-mock"
        found = re.search(rf"mod\t{re.escape(MODULE)}\t(\S+)\t(\S+)", _run(go, "version", "-m", str(made)))
        if found is None or found.groups() != (VERSION, CHECKSUM):
            raise RuntimeError(f"stripe-mock was built from {found and found.groups()}, not {VERSION} {CHECKSUM}")
        made.replace(built)


@contextmanager
def serving() -> Iterator[str]:
    """Runs the server on a free port. Yields its base URL. Raises PeerMissing."""
    built = binary()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The mock's own limits on the version of the API do not matter here: the SDK pins one.
    process = subprocess.Popen(
        [built, "-http-addr", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_listening(url, process)
        yield url
    finally:
        process.kill()
        process.wait()


def _run(*command: str, **variables: str) -> str:
    environment = {**os.environ, "GOTOOLCHAIN": "local", **variables}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=BUILD_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PeerMissing(f"stripe-mock was not built within {BUILD_LIMIT_S} s.") from error
    if done.returncode:
        raise PeerMissing(f"stripe-mock can't be built here: {done.stderr.strip().splitlines()[-1][:200]}.")
    return done.stdout


def _wait_until_listening(url: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_LIMIT_S
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"stripe-mock ended with code {process.returncode}")
        try:
            urlopen(url, timeout=1)
        except URLError as error:
            # An HTTP error is an answer; a refused connection is not.
            if getattr(error, "code", None) is not None:
                return
        else:
            return
        time.sleep(POLL_S)
    raise RuntimeError(f"stripe-mock did not listen within {START_LIMIT_S} s")


if __name__ == "__main__":
    try:
        print(binary())
    except PeerMissing as missing:
        sys.exit(str(missing))
