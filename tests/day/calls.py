"""Calls that are repeated, unchanged, while a service is starting, recovering or at capacity."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from ops.demo.player import TRANSIENT

CALL_S = 20.0
RETRY_S = 90.0
PAUSE_S = 0.3


async def retried(call: Any, request: Any, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
    """The answer of a call. A repeated request has the same request id. Raises AioRpcError."""
    until = time.monotonic() + RETRY_S
    while True:
        try:
            return await call(request, timeout=CALL_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() not in TRANSIENT or time.monotonic() > until:
                raise
        await asyncio.sleep(PAUSE_S)
