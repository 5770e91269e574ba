"""Checks whether a broker serves: one Metadata request over a plain socket, or one ApiVersions request over TLS.

An open port is not enough: a KRaft broker listens before it has caught up with the controller. A socket in place of a
client library keeps the import fast, with and without an event loop. A secured broker answers only ApiVersions to a
client that has not authenticated, and only once it processes requests.
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
    """The pairs of `host:port[,host:port…]`. Raises BadAddress if the text has another form."""
    found = []
    for part in kafka.split(","):
        host, _, port = part.strip().rpartition(":")
        if not host or not port.isdecimal():
            raise BadAddress(f"KAFKA must be host:port[,host:port…], not {kafka!r}")
        found.append((host.strip("[]"), int(port)))
    return found


def answers(kafka: str, *, timeout_s: float = 2.0, context: ssl.SSLContext | None = None) -> bool:
    """Whether a broker at one of the addresses reports a live broker of its cluster within `timeout_s` seconds.

    With a `context` the connection is encrypted, and it is enough that the broker processes requests.
    """
    check = _has_live_brokers if context is None else _processes_requests
    return any(check(host, port, timeout_s, context) for host, port in addresses(kafka))


def _has_live_brokers(host: str, port: int, timeout_s: float, context: ssl.SSLContext | None) -> bool:
    no_topics = struct.pack(">i", 0)
    try:
        size, correlation, brokers = struct.unpack(
            ">iii", _request(host, port, timeout_s, context, _header(_METADATA, _VERSION) + no_topics, 12)
        )
    except OSError:
        return False
    return bool(correlation == _CORRELATION and size >= 8 and brokers > 0)


def _processes_requests(host: str, port: int, timeout_s: float, context: ssl.SSLContext | None) -> bool:
    try:
        request = _header(_API_VERSIONS, _API_VERSIONS_VERSION)
        _size, correlation, error = struct.unpack(">iih", _request(host, port, timeout_s, context, request, 10))
    except OSError:
        return False
    return bool(correlation == _CORRELATION and error == 0)


def _header(api: int, version: int) -> bytes:
    return struct.pack(f">hhih{len(_CLIENT)}s", api, version, _CORRELATION, len(_CLIENT), _CLIENT)


def _request(
    host: str, port: int, timeout_s: float, context: ssl.SSLContext | None, request: bytes, count: int
) -> bytes:
    """Sends a request and returns the first `count` bytes of the response. Raises OSError."""
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
            raise ConnectionError("the broker closed the connection")
        data += more
    return data
