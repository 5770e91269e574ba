"""Public functions over private attributes of Faust and aiokafka that the processors need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from eventlog.consuming.fetch_throttle import FetchRequest


def producer_of(app: Any) -> Any:
    """The aiokafka producer of a started Faust app."""
    return app.producer._ensure_producer()


def accumulator_of(producer: Any) -> Any:
    """The object in which an aiokafka producer gathers batches."""
    return producer._message_accumulator


async def until_crashed(app: Any) -> None:
    """Waits until a Faust app has crashed; `app.crash_reason` is the error."""
    await app._crashed.wait()


def wrap_fetch_requests(fetcher: Any, wrap: Callable[[FetchRequest], FetchRequest]) -> None:
    """Puts a function around each fetch request of an aiokafka fetcher."""
    fetcher._proc_fetch_request = wrap(fetcher._proc_fetch_request)


def sender_task_of(producer: Any) -> asyncio.Task[None]:
    """The task in which a started aiokafka producer sends its batches."""
    task: asyncio.Task[None] = producer._sender.sender_task
    return task


async def send_admin_request(admin: Any, request: Any, node_id: int) -> Any:
    """Sends a request that the aiokafka admin client has no method for to one broker. Raises KafkaError."""
    return await admin._send_request(request, node_id)
