"""An HTTP/2 peer that misbehaves: no flow-control window, half a message, streams that are opened and reset.

gRPC's own clients can't do that. Frames are those of RFC 9113; headers are HPACK literals without indexing.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Sequence
from types import TracebackType

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4
#: Identifiers of settings.
INITIAL_WINDOW_SIZE = 4
CANCEL = 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def hpack(headers: Sequence[tuple[str, str]]) -> bytes:
    """Headers as literals without indexing, each name and value shorter than 127 bytes."""
    out = bytearray()
    for name, value in headers:
        out += bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode()
    return bytes(out)


def request_headers(method: str, deadline: str = "600S") -> bytes:
    """Header block of a call of `/package.Service/Method`. `deadline` in the format of grpc-timeout; empty for none."""
    headers = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    if deadline:
        headers.append(("grpc-timeout", deadline))
    return hpack(headers)


def message(data: bytes) -> bytes:
    """An uncompressed gRPC message."""
    return struct.pack(">BI", 0, len(data)) + data


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        #: Streams opened so far.
        self.opened = 0
        self._ended: set[int] = set()
        self._cut = False
        self._next = 1

    @classmethod
    async def connect(
        cls, address: str, tls: ssl.SSLContext | None = None, *, window: int = 65_535, source: str = "127.0.0.1"
    ) -> Peer:
        """Connects to host:port from the address `source`, with a flow-control window of `window` bytes a stream."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(
            host, int(port), ssl=tls, server_hostname="localhost" if tls else None, local_addr=(source, 0)
        )
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        writer.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK, 0))
        await writer.drain()
        return cls(reader, writer)

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def ended(self) -> int:
        """Streams that the server has ended; all of them once it closes the connection."""
        return self.opened if self._cut else len(self._ended)

    def close(self) -> None:
        """Closes the connection at once."""
        self.writer.transport.abort()

    async def call(self, method: str, data: bytes | None = None, *, whole: bool = True, deadline: str = "600S") -> int:
        """Starts a call and returns its stream. Without `data` it sends no request.

        Unless `whole`, the message's length is 100,000 bytes more than its data.
        """
        stream, self._next = self._next, self._next + 2
        self.opened += 1
        out = frame(HEADERS, END_HEADERS, stream, request_headers(method, deadline))
        if data is not None:
            body = message(data) if whole else struct.pack(">BI", 0, len(data) + 100_000) + data
            out += frame(DATA, END_STREAM if whole else 0, stream, body)
        self.writer.write(out)
        await self.writer.drain()
        return stream

    async def open_and_reset(self, method: str, count: int) -> None:
        """Opens and resets `count` streams in one write."""
        block = request_headers(method)
        out = bytearray()
        for _ in range(count):
            stream, self._next = self._next, self._next + 2
            self.opened += 1
            out += frame(HEADERS, END_HEADERS, stream, block)
            out += frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
        self.writer.write(bytes(out))
        await self.writer.drain()

    async def closed(self) -> None:
        """Reads frames without a WINDOW_UPDATE and counts ended streams, until the server closes the connection."""
        try:
            while True:
                head = await self.reader.readexactly(9)
                await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags = head[3], head[4]
                if kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
                    self._ended.add(int.from_bytes(head[5:], "big"))
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            self._cut = True
