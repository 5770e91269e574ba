"""An evening of orders, as `groupbuy-ops demo` plays it, with something that happens in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple
from uuid import uuid4

import grpc

from ops.demo.plan import plan
from ops.demo.player import Player, Tally

#: Longer than `in_the_middle` takes on a busy machine.
RETRY_FOR_S = 600.0


class EveningFailed(Exception):
    """A call of the evening ended with an unexpected error."""


class Played(NamedTuple):
    """What was played."""

    orders: int
    #: (group, order) of each acknowledged order.
    acknowledged: frozenset[tuple[str, str]]


async def play(
    shop: grpc.aio.Channel,
    merchant: grpc.aio.Channel,
    orders: int,
    seed: int,
    in_the_middle: Callable[[], None] | None = None,
) -> Played:
    """Plays an evening; `in_the_middle` runs in a thread while half of the orders are still to come.

    Calls are retried for RETRY_FOR_S. Raises EveningFailed if a call fails that should not, and errors of
    `in_the_middle`.
    """
    evening, tally = plan(orders, seed), Tally()
    player = Player(shop, merchant, uuid4(), tally, RETRY_FOR_S)
    await player.open_shop(evening)

    async def middle() -> None:
        await asyncio.sleep(evening.kill_at_s)
        if in_the_middle is not None:
            await asyncio.to_thread(in_the_middle)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(player.play(evening))
            tasks.create_task(middle())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    if tally.errors:
        raise EveningFailed(f"{len(tally.errors)} unexpected errors, the first: {tally.errors[0]}")
    return Played(evening.orders, frozenset(tally.acknowledged))
