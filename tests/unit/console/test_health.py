"""The page Health: readers with owner, lag and the age of their checkpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from console.live.board import Board
from console.live.checkpoints import Checkpoints
from console.live.services import Services
from console.pages.health import HealthChannel
from console.settings import ConsoleSettings
from ops.watch.lag import Lags, PartitionLag
from ops.watch.view import View
from shared_kernel.topics import GROUPS_DECIDER, PAYMENTS_EFFECTS

_TEXT = """\
# HELP groupbuy_checkpoint_age_seconds Largest time.
# TYPE groupbuy_checkpoint_age_seconds gauge
groupbuy_checkpoint_age_seconds{consumer_group="groupbuy.groups.decider"} 12.4
groupbuy_other{consumer_group="groupbuy.groups.decider"} 99
groupbuy_checkpoint_age_seconds{consumer_group="groupbuy.payments.effects"} 0.0
"""


@pytest.fixture
async def metrics() -> AsyncIterator[str]:
    async def serve(_: Any) -> web.Response:
        return web.Response(text=_TEXT)

    made = web.Application()
    made.router.add_get("/metrics", serve)
    async with TestServer(made) as server:
        yield f"127.0.0.1:{server.port}"


async def test_a_service_that_is_away_hides_nothing_of_the_others(metrics: str) -> None:
    found = Checkpoints(f"127.0.0.1:1, {metrics},{metrics}")
    await found.read()
    assert found.ages_s == {GROUPS_DECIDER: 12.4, PAYMENTS_EFFECTS: 0.0}


async def test_the_page_has_owner_lag_and_age(metrics: str) -> None:
    services = Services(ConsoleSettings(insecure=True), None)
    for addresses, words in ((metrics, ("checkpoint 12 s behind", "checkpoint up to date")), ("", ())):
        board = Board(View(1))
        rows = [
            PartitionLag(one, "groups.inbox.v1", 3, 1, 2, 1, 4.0, "host:1")
            for one in (GROUPS_DECIDER, PAYMENTS_EFFECTS)
        ]
        board.view.lags = Lags(rows, {GROUPS_DECIDER: 1, PAYMENTS_EFFECTS: 1})
        page = HealthChannel(board, services, Checkpoints(addresses))
        await page.prepare()
        text = page.part("readers")
        assert "4.0 s · 1 to read" in text and "owner host:1" in text
        assert text.count("checkpoint ") == len(words) and all(one in text for one in words)
    await services.close()
