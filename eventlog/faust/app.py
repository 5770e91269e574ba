"""Faust's app and its manager of tables, as processors use them."""

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

from eventlog.processors.lanes import cancelled_by_us

log = logging.getLogger(__name__)

#: Seconds between a step of the recovery that failed and the next try.
RETRY_S = 0.5

# Faust looks up the scheme of `eventlog://` here. Entry points would need this package on every process's path.
TRANSPORTS.aliases["eventlog"] = "eventlog.faust:Transport"
STORES.aliases["eventlog"] = "eventlog.faust.table_store:FoldStore"


class App(faust.App):  # type: ignore[misc]
    """Faust's app, which says when all its parts are started: before that they can't be stopped safely."""

    # The library announces its every step here: its chatter, under its name.
    logger = logging.getLogger("faust.eventlog")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.begun = asyncio.Event()

    async def on_started(self) -> None:
        """Faust's hook, before the wait for the recovery."""
        self.begun.set()
        await super().on_started()


class PatientRecovery(Recovery):  # type: ignore[misc]
    """A recovery that begins again where a step fails for want of the broker.

    Faust's ends without a word where a step takes longer than `broker_request_timeout`: mode reports a time-out as a
    stop.
    """

    logger = App.logger

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109 - Faust's signature
        why: object = f"not done within {timeout} s"
        try:
            waited = await self.wait_first(coro, self.signal_recovery_start, timeout=timeout)
        except (KafkaError, TimeoutError) as error:
            # An IllegalStateError is Faust's own sign of a rebalance.
            if isinstance(error, IllegalStateError) or (isinstance(error, KafkaError) and not error.retriable):
                raise
            why = repr(error)
        except asyncio.CancelledError:
            if cancelled_by_us() or self.should_stop:
                raise
            why = "cancelled from inside"
        else:
            if self.signal_recovery_start in waited.done:
                raise RebalanceAgain
            if not waited.stopped:
                return
            if self.should_stop or self.crashed:
                raise ServiceStopped
        log.warning("%s: recovery begins again: %s", self.app.conf.id, why)
        await asyncio.sleep(RETRY_S)
        self.signal_recovery_start.set()
        raise RebalanceAgain


class PromptTableManager(TableManager):  # type: ignore[misc]
    """Faust waits a second here for tables that are still being declared; ours are all declared before the start."""

    logger = App.logger
    _recovery: PatientRecovery | None

    @property
    def recovery(self) -> Any:
        """Faust's hook."""
        if self._recovery is None:
            self._recovery = PatientRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Faust's hook, without the wait."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
