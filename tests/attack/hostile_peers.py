"""Attacks by peers that are slow or silent, or that flood a server."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress

import aiohttp
from groupbuy.groups.v1 import groups_pb2

from tests.attack.http2 import Peer
from tests.attack.outcome import GROUP, ORDER, Outcome
from tests.attack.site import SERVICES, Site


async def ended_streams(peers: list[Peer], within_s: float) -> Outcome:
    """Waits until the server ends all streams of the peers or closes their connections."""
    listening = [asyncio.ensure_future(peer.closed()) for peer in peers]
    until = time.monotonic() + within_s
    while time.monotonic() < until and any(peer.ended < peer.opened for peer in peers):
        await asyncio.wait(listening, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.05)
    outcome = Outcome(sum(peer.opened for peer in peers), sum(peer.ended for peer in peers))
    for peer in peers:
        peer.close()
    await asyncio.gather(*listening, return_exceptions=True)
    return outcome


async def unfinished_messages(site: Site, size: float) -> Outcome:
    """Calls without a request or with half of one, with a deadline of ten minutes."""
    tls = site.tls("shop")
    peers = [await Peer.connect(site.endpoints["orders"], tls) for _ in range(10)]
    for peer in peers:
        for number in range(int(100 * size)):
            data = None if number % 2 else b"\x0a\x10half a message"
            await peer.call(f"{ORDER}PlaceOrder", data, whole=False)
    return await ended_streams(peers, 25.0)


async def unread_answers(site: Site, size: float) -> Outcome:
    """Calls whose responses can't be sent: the flow-control window is 0."""
    tls = site.tls("shop")
    request = groups_pb2.GetGroupRequest(name=site.group).SerializeToString()
    peers = [await Peer.connect(site.endpoints["groups"], tls, window=0) for _ in range(5)]
    for peer in peers:
        for _ in range(int(200 * size)):
            await peer.call(f"{GROUP}GetGroup", request)
    return await ended_streams(peers, 45.0)


async def count_closed(closed: Sequence[asyncio.Future[None]], within_s: float) -> int:
    """Number of connections that the server closes in time. Each future is done when its connection is closed."""
    if closed:
        await asyncio.wait(closed, timeout=within_s)
    count = sum(one.done() for one in closed)
    for one in closed:
        one.cancel()
    await asyncio.gather(*closed, return_exceptions=True)
    return count


async def silent_connections(site: Site, size: float) -> Outcome:
    """Connections from one address to each service that send nothing."""
    outcome = Outcome()
    sockets: list[asyncio.StreamReader] = []
    writers: list[asyncio.StreamWriter] = []
    try:
        for service in SERVICES:
            host, _, port = site.endpoints[service].rpartition(":")
            for _ in range(int(2_500 * size)):
                outcome.tried += 1
                try:
                    reader, writer = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.2", 0))
                except OSError:
                    outcome.refused += 1
                else:
                    sockets.append(reader)
                    writers.append(writer)
        closed = [asyncio.ensure_future(until_closed(reader)) for reader in sockets]
        outcome.refused += await count_closed(closed, 20.0)
    finally:
        for writer in writers:
            writer.transport.abort()
    return outcome


async def until_closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while await reader.read(1_000):
            pass


async def reset_flood(site: Site, size: float) -> Outcome:
    """Streams that are opened and reset, 15,000 a second, on one connection after another."""
    tls = site.tls("shop")
    outcome = Outcome()
    until = time.monotonic() + 6.0 * size
    while time.monotonic() < until:
        try:
            async with asyncio.timeout(1.0):
                peer = await Peer.connect(site.endpoints["orders"], tls, source="127.0.0.3")
        except (OSError, ssl.SSLError):
            outcome.tried += 1
            outcome.refused += 1
            await asyncio.sleep(0.1)
            continue
        closed = asyncio.ensure_future(peer.closed())
        outcome.tried += 1
        while time.monotonic() < until and not closed.done():
            with suppress(ConnectionError, ssl.SSLError):
                await peer.open_and_reset(f"{ORDER}GetOrder", 300)
            await asyncio.wait([closed], timeout=0.02)
        outcome.refused += closed.done()
        peer.close()
        await closed
    return outcome


async def half_webhooks(site: Site, size: float) -> Outcome:
    """Webhook requests that are never completed."""
    host, _, port = site.webhooks.rpartition(":")
    head = b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    found = Outcome()
    writers: list[asyncio.StreamWriter] = []
    closed: list[asyncio.Future[None]] = []
    try:
        for number in range(int(1_500 * size)):
            found.tried += 1
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                found.refused += 1
                continue
            writers.append(writer)
            writer.write(head if number % 2 else head[:20])
            closed.append(asyncio.ensure_future(until_closed(reader)))
        found.refused += await count_closed(closed, 15.0)
    finally:
        for writer in writers:
            writer.transport.abort()
    return found


async def forged_webhooks(site: Site, size: float) -> Outcome:
    """Webhooks without a signature, with an invalid one, and with two."""
    found = Outcome()
    async with aiohttp.ClientSession() as session:

        async def one(number: int) -> None:
            now = int(time.time())
            headers = [("Stripe-Signature", f"t={now},v1={'0' * 64}")] * (number % 3)
            async with session.post(f"http://{site.webhooks}/webhooks/stripe", data=b"{}", headers=headers) as answer:
                found.tried += 1
                found.refused += 400 <= answer.status < 500

        for first in range(0, int(1_000 * size), 10):
            await asyncio.gather(*(one(number) for number in range(first, first + 10)))
            await asyncio.sleep(0.05)
    return found
