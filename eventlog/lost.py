"""A connection that the broker has closed, as aiokafka has to hear of it.

What is written to one before its end was read is dropped by asyncio, and the end is read next. uvloop raises a
RuntimeError, and of writing aiokafka expects an OSError only (its issue 1038): the other would end whoever was writing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError


def tell_of_lost_connections() -> None:
    """Makes all connections of this process say so. May be called again."""
    for name in ("send", "_send_sasl_token"):
        method = getattr(AIOKafkaConnection, name)
        if not hasattr(method, "__wrapped__"):
            setattr(AIOKafkaConnection, name, _telling(method))


def _telling(send: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(send)
    def sent(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return send(self, *args, **kwargs)
        except RuntimeError as error:
            if self._writer is None or not self._writer.transport.is_closing():
                raise
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error

    return sent
