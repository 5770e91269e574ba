"""Asks a broker whether it serves: one Metadata request over a plain socket.

An open port is not enough: a KRaft broker listens before it has caught up with the controller. A client library would
do, but this must stay quick to import and usable with and without an event loop.
"""

from __future__ import annotations

import socket
import struct

from deploy.errors import BadAddress

_METADATA = 3
_VERSION = 1
_CORRELATION = 1
_CLIENT = b"groupbuy-probe"


def addresses(kafka: str) -> list[tuple[str, int]]:
    """`host:port[,host:port…]` as pairs. Raises BadAddress where it is no such list."""
    found = []
    for part in kafka.split(","):
        host, _, port = part.strip().rpartition(":")
        if not host or not port.isdecimal():
            raise BadAddress(f"KAFKA must be host:port[,host:port…], not {kafka!r}")
        found.append((host.strip("[]"), int(port)))
    return found


def answers(kafka: str, *, timeout_s: float = 2.0) -> bool:
    """Whether one of the addresses names at least one live broker of its cluster within `timeout_s` seconds."""
    return any(_brokers(host, port, timeout_s) for host, port in addresses(kafka))


def _brokers(host: str, port: int, timeout_s: float) -> int:
    header = struct.pack(f">hhih{len(_CLIENT)}s", _METADATA, _VERSION, _CORRELATION, len(_CLIENT), _CLIENT)
    no_topics = struct.pack(">i", 0)
    request = header + no_topics
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            size, correlation, brokers = struct.unpack(">iii", _read(connection, 12))
    except OSError:
        return 0
    return int(brokers) if correlation == _CORRELATION and size >= 8 else 0


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the broker hung up")
        data += more
    return data
