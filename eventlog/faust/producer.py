"""The producer of a processor: idempotent, with acks=all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver

from eventlog.runtime.abort import abort


class BatchProducer(driver.Producer):  # type: ignore[misc]
    """Faust's producer, which is idempotent only in transactions, made idempotent."""

    # Faust logs every step here; under its own name the level can be set.
    logger = logging.getLogger("faust.eventlog")

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def on_start(self) -> None:
        """Faust's hook. Ends the process when the sender task ends before the stop.

        Without a sender nothing is written, and output is neither acknowledged nor failed.
        """
        await super().on_start()
        self._producer._sender.sender_task.add_done_callback(self._sender_ended)

    def _sender_ended(self, task: asyncio.Task[None]) -> None:
        # A stop clears `_producer` first, and the end of the event loop cancels the sender. Otherwise an error, or a
        # CancelledError from inside a call, has ended it.
        if self._producer is not None and not task.cancelling():
            abort("the producer's sender ended", None if task.cancelled() else task.exception())
