"""Faust's app, its recovery and its table manager, with the changes that processors need."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import faust
from aiokafka.errors import IllegalStateError, KafkaError
from faust.stores import STORES
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.transport.drivers import TRANSPORTS

from eventlog.runtime.cancellation import cancel_requested

log = logging.getLogger(__name__)

#: Seconds between a recovery step that failed and the next attempt.
RETRY_S = 0.5

# Faust looks up the scheme of `eventlog://` here. Entry points would need this package on every process's path.
TRANSPORTS.aliases["eventlog"] = "eventlog.faust.transport:Transport"
STORES.aliases["eventlog"] = "eventlog.faust.table_store:FoldStore"


class App(faust.App):  # type: ignore[misc]
    """Faust's app, which signals when all its services are started. Before that they can't be stopped safely."""

    # Faust logs every step here; under its own name the level can be set.
    logger = logging.getLogger("faust.eventlog")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.begun = asyncio.Event()

    async def on_started(self) -> None:
        """Faust's hook, before the wait for the recovery."""
        self.begun.set()
        await super().on_started()


class RetryingRecovery(Recovery):  # type: ignore[misc]
    """A recovery that restarts when a step fails because the broker is away.

    Faust's recovery ends silently when a step takes longer than `broker_request_timeout`, since mode reports a time-out
    as a stop.
    """

    logger = App.logger

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109 - Faust's signature
        why: object = f"not done within {timeout} s"
        try:
            waited = await self.wait_first(coro, self.signal_recovery_start, timeout=timeout)
        except (KafkaError, TimeoutError) as error:
            # Faust raises IllegalStateError at a rebalance.
            if isinstance(error, IllegalStateError) or (isinstance(error, KafkaError) and not error.retriable):
                raise
            why = repr(error)
        except asyncio.CancelledError:
            if cancel_requested() or self.should_stop:
                raise
            why = "cancelled from inside"
        else:
            if self.signal_recovery_start in waited.done:
                raise RebalanceAgain
            if not waited.stopped:
                return
            if self.should_stop or self.crashed:
                raise ServiceStopped
        log.warning("%s: recovery restarts: %s", self.app.conf.id, why)
        await asyncio.sleep(RETRY_S)
        self.signal_recovery_start.set()
        raise RebalanceAgain


class NoWaitTableManager(TableManager):  # type: ignore[misc]
    """Faust waits a second for tables that are still being declared. Ours are declared before the start."""

    logger = App.logger
    _recovery: RetryingRecovery | None

    @property
    def recovery(self) -> Any:
        """Faust's hook."""
        if self._recovery is None:
            self._recovery = RetryingRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Faust's hook, without the wait."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
