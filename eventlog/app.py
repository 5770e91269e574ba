"""Faust's app and its manager of tables, as processors use them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import faust
from faust.tables.manager import TableManager


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


class PromptTableManager(TableManager):  # type: ignore[misc]
    """Faust waits a second here for tables that are still being declared; ours are all declared before the start."""

    logger = App.logger

    async def on_start(self) -> None:
        """Faust's hook, without the wait."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
