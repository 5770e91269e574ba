"""Free TCP ports of the loopback interface that stay claimed over restarts of their servers.

The ports are below the kernel's ephemeral range: a client that connects to an ephemeral port while its server is down
may get that very port as its local end, and connect to itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import sys
import threading

# Below the ephemeral ranges of Linux (from 32768) and of macOS (from 49152).
_RANGE = range(20_000, 32_768)
_TRIES = 200

_lock = threading.Lock()
_claims: dict[int, socket.socket | None] = {}


def free_port() -> int:
    """A port without a listener, claimed until `release`: no other call returns it, on Linux in no process.

    Another program may still bind it first. Raises OSError if no port is free.
    """
    with _lock:
        for port in random.sample(_RANGE, _TRIES):
            if port in _claims or not _bindable(port):
                continue
            with contextlib.suppress(OSError):
                _claims[port] = _reserve(port)
                return port
    raise OSError(f"no free port between {_RANGE.start} and {_RANGE.stop - 1}")


def claim(port: int) -> None:
    """Claims a given port until `release`. Raises OSError if a program listens on it, or if it is claimed already."""
    with _lock:
        if port in _claims:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        with socket.socket() as probe:
            # As servers do: connections that ended a moment ago do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
        _claims[port] = _reserve(port)


def release(*ports: int) -> None:
    """Releases claimed ports. Ignores ports that are not claimed."""
    with _lock:
        for port in ports:
            reserved = _claims.pop(port, None)
            if reserved is not None:
                reserved.close()


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _reserve(port: int) -> socket.socket | None:
    """Reserves the port by the name of an abstract socket. Linux only.

    Like a port, the name is unique per network namespace and ends with its process.
    """
    if sys.platform != "linux":
        return None
    reserved = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        reserved.bind(f"\0groupbuy-port-{port}")
    except OSError:
        reserved.close()
        raise
    return reserved
