"""The least of an HTTP/2 client that a load generator needs: it calls a gRPC method and says when an answer has come.

A client library costs as much a call as the server under test, and on two cores that would be what is measured. Must
never be used for anything but load: it reads no header, so all it knows is whether an answer had a message.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
#: Bytes that the server may send us before it must be told that we have read them.
WINDOW = 1 << 30
#: Bytes that we may send on a connection before the server says more.
FIRST_CREDIT = 65_535
_HEAD = struct.Struct(">IBI")

#: (stream, messages in it so far, whether it has ended, seconds on the monotonic clock)
Heard = Callable[[int, int, bool, float], None]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def headers(method: str, authority: str, timeout_s: int | None) -> bytes:
    """The header block of a call: all as literals, so that it is the same for every call. `method` begins with /."""
    fields = [(":path", method), (":authority", authority), ("content-type", "application/grpc"), ("te", "trailers")]
    if timeout_s is not None:
        fields.append(("grpc-timeout", f"{timeout_s}S"))
    block = b"\x83\x86"  # :method POST, :scheme http
    for name, value in fields:
        block += b"\x00" + _text(name) + _text(value)
    return block


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) >= 127:
        raise ValueError("a header this long is not needed here")
    return bytes((len(data),)) + data


def message(data: bytes) -> bytes:
    """A gRPC message: uncompressed, its length, its bytes."""
    return struct.pack(">BI", 0, len(data)) + data


class Connection(asyncio.Protocol):
    """One connection. `heard` is told of every answer."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        #: Messages by stream, kept where somebody wants to read them later.
        self.kept: dict[int, bytes] | None = None
        self._buffer = b""
        self._next = 1
        self._messages: dict[int, int] = {}
        self._transport: asyncio.Transport | None = None
        self._credit = FIRST_CREDIT
        self._unread = 0
        self._waiting: list[tuple[int, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's hook."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = struct.pack(">HI", 4, WINDOW)  # SETTINGS_INITIAL_WINDOW_SIZE
        more = struct.pack(">I", WINDOW - FIRST_CREDIT)
        transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, more))

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's hook: whatever is open has ended."""
        now = time.monotonic()
        for stream, messages in list(self._messages.items()):
            self._heard(stream, messages, True, now)
        self._messages.clear()

    def call(self, block: bytes, body: bytes) -> int:
        """Begins a call with one request, and returns its stream."""
        stream = self._next
        self._next += 2
        self._messages[stream] = 0
        self._waiting.append((stream, frame(HEADERS, END_HEADERS, stream, block)))
        self._waiting.append((stream, frame(DATA, END_STREAM, stream, body)))
        self._flush()
        return stream

    def close(self) -> None:
        """Ends the connection and all calls on it."""
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        """Sends what the server has given credit for. Headers need none."""
        out = []
        while self._waiting:
            data = self._waiting[0][1]
            needs = len(data) - _HEAD.size if data[3] == DATA else 0
            if needs > self._credit:
                break
            self._credit -= needs
            out.append(data)
            del self._waiting[0]
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        """asyncio's hook."""
        now = time.monotonic()
        buffer = self._buffer + data
        at = 0
        while len(buffer) - at >= _HEAD.size:
            size_kind, flags, stream = _HEAD.unpack_from(buffer, at)
            size = size_kind >> 8
            if len(buffer) - at - _HEAD.size < size:
                break
            at += _HEAD.size
            self._take(size_kind & 0xFF, flags, stream, buffer[at : at + size], now)
            at += size
        self._buffer = buffer[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        assert self._transport is not None
        if kind in (DATA, HEADERS, RST_STREAM):
            self._answered(kind, flags, stream, payload, now)
        elif kind == SETTINGS and not flags & ACK:
            self._transport.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._transport.write(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE and stream == 0:
            self._credit += struct.unpack(">I", payload)[0]
            self._flush()

    def _answered(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        messages = self._messages.get(stream)
        if messages is None or self._transport is None:
            return
        heard = kind == DATA and len(payload) > 0
        if heard:
            self._unread += len(payload)
            if self._unread > WINDOW // 4:
                self._transport.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unread)))
                self._unread = 0
            # A message larger than a frame comes in several; the load generator's are all small.
            messages += 1
            self._messages[stream] = messages
            if self.kept is not None:
                self.kept[stream] = self.kept.get(stream, b"") + payload
        ended = kind == RST_STREAM or bool(flags & END_STREAM)
        if ended:
            del self._messages[stream]
        if ended or heard:
            self._heard(stream, messages, ended, now)


async def connect(endpoint: str, heard: Heard) -> Connection:
    """A connection to host:port."""
    host, _, port = endpoint.rpartition(":")
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(heard), host, int(port))
    return connection
