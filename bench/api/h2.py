"""A minimal HTTP/2 client for load generators: calls a gRPC method and reports when messages arrive.

A gRPC client library costs as much CPU per call as the server under test, which two cores would share. This client
ignores headers, so it only knows whether a response had a message, not its status.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
#: Flow-control window of the client: bytes that the server may send before it gets a window update.
WINDOW = 1 << 30
#: Initial window of the server: bytes that the client may send before it gets a window update.
FIRST_CREDIT = 65_535
_HEAD = struct.Struct(">IBI")

#: (stream, messages in it so far, whether it has ended, seconds on the monotonic clock)
OnMessage = Callable[[int, int, bool, float], None]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame."""
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def headers(method: str, authority: str, timeout_s: int | None) -> bytes:
    """The header block of a call, all literals, so that it is the same for every call. `method` begins with /."""
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
    """A gRPC message: not compressed, its length, its bytes."""
    return struct.pack(">BI", 0, len(data)) + data


class Connection(asyncio.Protocol):
    """One connection. `on_message` is called at each message and at the end of each stream."""

    def __init__(self, on_message: OnMessage) -> None:
        self._on_message = on_message
        #: Messages by stream; None: they are not stored.
        self.stored: dict[int, bytes] | None = None
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
        """asyncio's hook: ends all open streams."""
        now = time.monotonic()
        for stream, messages in list(self._messages.items()):
            self._on_message(stream, messages, True, now)
        self._messages.clear()

    def call(self, block: bytes, body: bytes) -> int:
        """Starts a call with one request, and returns its stream."""
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
        """Sends waiting frames as far as the server's window allows. Headers do not count."""
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
            self._response(kind, flags, stream, payload, now)
        elif kind == SETTINGS and not flags & ACK:
            self._transport.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._transport.write(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE and stream == 0:
            self._credit += struct.unpack(">I", payload)[0]
            self._flush()

    def _response(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        messages = self._messages.get(stream)
        if messages is None or self._transport is None:
            return
        has_message = kind == DATA and len(payload) > 0
        if has_message:
            self._unread += len(payload)
            if self._unread > WINDOW // 4:
                self._transport.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unread)))
                self._unread = 0
            # Counts frames as messages: all messages of the load generators fit into one frame.
            messages += 1
            self._messages[stream] = messages
            if self.stored is not None:
                self.stored[stream] = self.stored.get(stream, b"") + payload
        ended = kind == RST_STREAM or bool(flags & END_STREAM)
        if ended:
            del self._messages[stream]
        if ended or has_message:
            self._on_message(stream, messages, ended, now)


async def connect(endpoint: str, on_message: OnMessage) -> Connection:
    """Connects to host:port."""
    host, _, port = endpoint.rpartition(":")
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(on_message), host, int(port))
    return connection
