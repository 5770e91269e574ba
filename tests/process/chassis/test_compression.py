"""Large pages are compressed. The tests count the bytes on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc

from tests.unit.chassis.support import SOON_S, running


class Counted:
    """The bytes of responses through a relay."""

    def __init__(self) -> None:
        self.bytes = 0


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: Counted) -> None:
    while data := await reader.read(65_536):
        counted.bytes += len(data)
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[tuple[int, Counted]]:
    """A relay to another port that counts the bytes of responses."""
    counted, copies = Counted(), []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", port)
        copies.append(asyncio.create_task(_copy(reader, to_there, Counted())))
        copies.append(asyncio.create_task(_copy(there, writer, counted)))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], counted
    finally:
        server.close()
        for copy in copies:
            copy.cancel()


async def bytes_of_a_page(orders: int, options: Sequence[tuple[str, int]] = ()) -> int:
    """The bytes of a page on the wire; each order of the fake has 1,000 bytes."""
    async with running() as run, relay(run.port) as (port, counted):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            stub: Any = orders_pb2_grpc.OrderServiceStub(channel)
            request = orders_pb2.ListOrdersRequest(parent=f"groups/{'0' * 36}", page_size=orders)
            assert len((await stub.ListOrders(request, timeout=SOON_S)).orders) == orders
        return counted.bytes


async def test_a_large_page_is_compressed_and_a_small_one_is_not() -> None:
    assert await bytes_of_a_page(200) < 20_000
    assert await bytes_of_a_page(10) > 10_000


async def test_a_caller_without_compression_gets_an_uncompressed_page() -> None:
    assert await bytes_of_a_page(200, [("grpc.compression_enabled_algorithms_bitset", 1)]) > 200_000
