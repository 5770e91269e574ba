"""Peers that send nothing, half a request or no reads lose their connection, and delay nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from chassis.admission.rate_limit import RateLimit
from console.web import authentication, connections, passwords, streams
from console.web.channel import Channel
from console.web.connections import Connections, Listener, form_of
from console.web.passwords import Operators
from console.web.streams import Places, stream
from tests.unit.chassis.support import eventually
from tests.unit.console import pages_site

SOON_S = 20.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Large(Channel):
    """A channel whose frames fill every buffer."""

    def frame(self, after: int) -> bytes:
        return b"data: " + b"x" * 4_000_000 + b"\n\n"


class Site:
    """A port with a page, a page that takes long, a form and a stream."""

    def __init__(self, held: Connections) -> None:
        self.held = held
        self.places = Places(10)
        self.inside, self.release = asyncio.Event(), asyncio.Event()
        self.application = web.Application()
        self.application.add_routes(
            [
                web.get("/", self._page),
                web.get("/slow", self._slow),
                web.post("/form", self._form),
                web.get("/events", self._events),
            ]
        )
        self.port = 0
        #: A writer that is collected closes its connection.
        self._writers: list[asyncio.StreamWriter] = []

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="here")

    async def _slow(self, _: web.Request) -> web.StreamResponse:
        self.inside.set()
        await self.release.wait()
        return web.Response(text="late")

    async def _form(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=str(await form_of(request)))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await stream(request, Large(), self.places, {})

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        self._writers.append(writer)
        return reader, writer


@asynccontextmanager
async def serving(**limits: int) -> AsyncIterator[Site]:
    site = Site(Connections(**limits))
    listener = Listener(site.application, site.held)
    site.port = await listener.start("127.0.0.1", 0, backlog=10, stop_s=0.1)
    try:
        yield site
    finally:
        site.release.set()
        await listener.stop()


async def everything(reader: asyncio.StreamReader) -> bytes:
    """All bytes until the connection ends."""
    found = b""
    async with asyncio.timeout(SOON_S):
        with suppress(ConnectionError):
            while part := await reader.read(100_000):
                found += part
    return found


async def answered(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(SOON_S):
        head = await reader.readuntil(b"\r\n\r\n")
        return head.split(b"\r\n")[0]


@pytest.mark.parametrize("sent", [b"", GET[:10], GET[:-2]], ids=["nothing", "half_a_line", "half_a_head"])
async def test_a_request_that_does_not_arrive_ends_its_connection(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.05)
    async with serving() as site:
        reader, _ = await site.connect(sent)
        assert await everything(reader) == b""
        await eventually(lambda: len(site.held) == 0)
        assert site.held.closed == 1


async def test_a_request_in_its_handler_has_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.05)
    async with serving() as site:
        reader, _ = await site.connect(GET.replace(b"/", b"/slow", 1))
        await site.inside.wait()
        # The deadline of another connection, which began later, is over.
        other, _ = await site.connect()
        assert await everything(other) == b""
        site.release.set()
        assert await answered(reader) == b"HTTP/1.1 200 OK"


async def test_a_connection_without_a_next_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "NEXT_S", 0.05)
    async with serving() as site:
        reader, _ = await site.connect(GET)
        assert (await everything(reader)).endswith(b"here")


async def test_at_capacity_the_connection_that_waited_longest_is_closed() -> None:
    async with serving(limit=3) as site:
        busy, _ = await site.connect(GET.replace(b"/", b"/slow", 1))
        await site.inside.wait()
        first, _ = await site.connect()
        await eventually(lambda: len(site.held) == 2)
        second, second_writer = await site.connect()
        await eventually(lambda: len(site.held) == 3)
        await site.connect()
        assert await everything(first) == b""
        await eventually(lambda: len(site.held) == 3)
        second_writer.write(GET)
        assert await answered(second) == b"HTTP/1.1 200 OK"
        site.release.set()
        assert await answered(busy) == b"HTTP/1.1 200 OK"


async def test_further_connections_of_an_address_are_closed() -> None:
    async with serving(per_address=2) as site:
        kept = [await site.connect() for _ in range(2)]
        await eventually(lambda: len(site.held) == 2)
        surplus, _ = await site.connect()
        assert await everything(surplus) == b""
        for reader, writer in kept:
            writer.write(GET)
            assert await answered(reader) == b"HTTP/1.1 200 OK"
        kept[0][1].transport.abort()
        await eventually(lambda: len(site.held) == 1)
        reader, _ = await site.connect(GET)
        assert await answered(reader) == b"HTTP/1.1 200 OK"


async def test_a_form_that_does_not_arrive_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_S", 0.05)
    head = b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    async with serving() as site:
        reader, _ = await site.connect(head + b"Content-Length: 1000\r\n\r\na=1")
        assert await answered(reader) == b"HTTP/1.1 408 Request Timeout"
        whole, _ = await site.connect(head + b"Content-Length: 3\r\n\r\na=1")
        assert await answered(whole) == b"HTTP/1.1 200 OK"


async def test_a_stream_that_is_not_read_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "UNREAD_S", 0.05)
    async with serving() as site:
        _, writer = await site.connect()
        # Without a reader nothing leaves the peer's buffers.
        writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport that reads
        writer.write(GET.replace(b"/", b"/events", 1))
        await eventually(lambda: site.places.taken == 1)
        await eventually(lambda: site.places.taken == 0)
        writer.transport.abort()


def taken(places: Places, stack: ExitStack, addresses: Iterable[str], *, public: bool = False) -> int:
    """Takes a place for each address, and returns how many got one."""
    found = 0
    for address in addresses:
        with suppress(web.HTTPServiceUnavailable):
            stack.enter_context(places.one(address, public=public))
            found += 1
    return found


def test_one_address_and_the_viewers_of_links_leave_places() -> None:
    places = Places(10)
    with ExitStack() as stack:
        assert taken(places, stack, ["10.0.0.1"] * 9, public=True) == 4
        assert taken(places, stack, [f"10.0.1.{number}" for number in range(9)], public=True) == 4
        assert taken(places, stack, ["10.0.0.2"] * 9) == 2
    assert (places.taken, places.refused) == (0, 5 + 5 + 7)
    with ExitStack() as stack:
        assert taken(places, stack, ["10.0.0.1"] * 9) == 8
        assert taken(places, stack, ["10.0.0.2"] * 9) == 2


async def test_wrong_passwords_are_limited_and_delay_no_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "PER_ADDRESS", RateLimit(calls_per_second=0.001, burst=3))
    file = tmp_path / "operators"
    file.write_text(passwords.line("ann", "right"), encoding="utf-8")
    async with pages_site.running(Operators(file), user="ann") as site:
        assert (await site.get("/"))[0] == 200
        computed: list[str] = []
        hashed = passwords._hash

        def counted(password: str, salt: bytes) -> bytes:
            computed.append(password)
            return hashed(password, salt)

        monkeypatch.setattr(passwords, "_hash", counted)
        wrong = [pages_site.basic("ann", f"wrong {number}") for number in range(10)]
        statuses = [(await site.get("/", headers=one))[0] for one in wrong]
        assert statuses == [401] * 2 + [429] * 8
        assert len(computed) == 2
        # A password that was right is not computed again.
        assert (await site.get("/"))[0] == 200
        assert (await site.get("/", headers={"Authorization": "Basic !"}))[0] == 401
        assert len(computed) == 2
