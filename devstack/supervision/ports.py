"""Free TCP ports of the loopback interface that stay ours over restarts.

Must never hand out a port of the range from which the kernel takes the near end of outgoing connections: a client that
knocks on such a port while its server is down may be given that very port and connect to itself.
"""

from __future__ import annotations

import contextlib
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
    """A port nobody listens on, claimed until `release`: no other call gives it out, in no process on Linux.

    Another program may still take it before it is bound. Raises OSError when none is found.
    """
    with _lock:
        for port in random.sample(_RANGE, _TRIES):
            if port in _claims or not _bindable(port):
                continue
            with contextlib.suppress(OSError):
                _claims[port] = _claim(port)
                return port
    raise OSError(f"no free port between {_RANGE.start} and {_RANGE.stop - 1}")


def release(*ports: int) -> None:
    """Gives claimed ports back; what was not claimed is ignored."""
    with _lock:
        for port in ports:
            claim = _claims.pop(port, None)
            if claim is not None:
                claim.close()


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _claim(port: int) -> socket.socket | None:
    """A name in Linux's abstract namespace: like ports, one a network namespace, and gone with its process."""
    if sys.platform != "linux":
        return None
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0groupbuy-port-{port}")
    except OSError:
        claim.close()
        raise
    return claim
