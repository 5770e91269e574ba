"""The producer of a processor: idempotent, and nothing counts as written before all in-sync replicas have it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver

from eventlog.runtime.abort import abort


class BatchProducer(driver.Producer):  # type: ignore[misc]
    """Faust's producer is not idempotent outside of transactions; this one always is."""

    # The library announces its every step here: its chatter, under its name.
    logger = logging.getLogger("faust.eventlog")

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def on_start(self) -> None:
        """Faust's, and ends the process when the sender ends before the stop: nothing would be written any more, and
        output that was handed over would be neither acknowledged nor failed."""
        await super().on_start()
        self._producer._sender.sender_task.add_done_callback(self._sender_ended)

    def _sender_ended(self, task: asyncio.Task[None]) -> None:
        # No producer from the beginning of the stop on. The event loop's end cancels the sender, too; an error or a
        # CancelledError from inside a call ends it unasked.
        if self._producer is not None and not task.cancelling():
            abort("the producer's sender ended", None if task.cancelled() else task.exception())
