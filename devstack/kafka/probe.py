"""Asks a broker whether it serves: one Metadata request over a plain socket, or over TLS one for its API's versions.

An open port is not enough: a KRaft broker listens before it has caught up with the controller. A client library would
do, but this must stay quick to import and usable with and without an event loop. Before a client has said who it is, a
broker tells nothing but versions; it does so only once it takes requests.
"""

from __future__ import annotations

import socket
import ssl
import struct

from devstack.errors import BadAddress

_METADATA, _VERSION = 3, 1
_API_VERSIONS, _API_VERSIONS_VERSION = 18, 0
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


def answers(kafka: str, *, timeout_s: float = 2.0, context: ssl.SSLContext | None = None) -> bool:
    """Whether one of the addresses names at least one live broker of its cluster within `timeout_s` seconds.

    With a `context` the connection is encrypted, and it is enough that the broker takes requests.
    """
    ask = _brokers if context is None else _takes_requests
    return any(ask(host, port, timeout_s, context) for host, port in addresses(kafka))


def _brokers(host: str, port: int, timeout_s: float, context: ssl.SSLContext | None) -> bool:
    no_topics = struct.pack(">i", 0)
    try:
        size, correlation, brokers = struct.unpack(
            ">iii", _asked(host, port, timeout_s, context, _header(_METADATA, _VERSION) + no_topics, 12)
        )
    except OSError:
        return False
    return bool(correlation == _CORRELATION and size >= 8 and brokers > 0)


def _takes_requests(host: str, port: int, timeout_s: float, context: ssl.SSLContext | None) -> bool:
    try:
        request = _header(_API_VERSIONS, _API_VERSIONS_VERSION)
        _size, correlation, error = struct.unpack(">iih", _asked(host, port, timeout_s, context, request, 10))
    except OSError:
        return False
    return bool(correlation == _CORRELATION and error == 0)


def _header(api: int, version: int) -> bytes:
    return struct.pack(f">hhih{len(_CLIENT)}s", api, version, _CORRELATION, len(_CLIENT), _CLIENT)


def _asked(host: str, port: int, timeout_s: float, context: ssl.SSLContext | None, request: bytes, count: int) -> bytes:
    """The first so many bytes of the answer. Raises OSError."""
    with socket.create_connection((host, port), timeout=timeout_s) as plain:
        connection = plain if context is None else context.wrap_socket(plain, server_hostname=host)
        with connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return _read(connection, count)


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the broker hung up")
        data += more
    return data
