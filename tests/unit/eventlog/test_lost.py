"""A connection that is lost is an error of the connection, on either event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from eventlog.lost import _telling


async def _write_after_its_end(send: Callable[..., Any]) -> AIOKafkaConnection:
    """Sends on a connection whose transport has been closed, which aiokafka has not been told of."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port)
    connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
    connection._read_task = asyncio.create_task(asyncio.Event().wait())
    connection._closed_fut = asyncio.get_running_loop().create_future()
    connection._versions = {MetadataRequest.API_KEY: (0, 1)}
    try:
        connection._writer.transport.abort()
        await asyncio.wait([asyncio.ensure_future(connection._writer.wait_closed())])
        with pytest.raises(KafkaConnectionError, match="broken"):
            send(connection, MetadataRequest([]))
    finally:
        server.close()
    return connection


def test_to_write_to_a_lost_connection_closes_it() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        connection = runner.run(_write_after_its_end(_telling(_unwrapped())))
        assert not connection.connected()


def test_aiokafka_does_not_know_that_yet() -> None:
    """Whoever makes this fail can take `eventlog/lost.py` away."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(RuntimeError, match="closed"):
        runner.run(_write_after_its_end(_unwrapped()))


def test_other_errors_are_left_as_they_are() -> None:
    def send(_: Any) -> None:
        raise RuntimeError("something else")

    class Open:
        _writer = None

    with pytest.raises(RuntimeError, match="something else"):
        _telling(send)(Open())


def _unwrapped() -> Callable[..., Any]:
    send: Callable[..., Any] = AIOKafkaConnection.send
    wrapped: Callable[..., Any] = getattr(send, "__wrapped__", send)
    return wrapped
