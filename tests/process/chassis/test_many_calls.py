"""More calls at once than gRPC would let wait by itself."""

from __future__ import annotations

import asyncio

from tests.unit.chassis.support import running


async def test_three_thousand_calls_at_once_are_all_answered() -> None:
    """Beyond about 1,000 pending calls gRPC would cancel by itself: the bound must be ours."""
    async with running(max_calls=10_000) as run:
        answers = await asyncio.gather(*(run.place(within_s=60) for _ in range(3_000)))
        assert {answer.token for answer in answers} == {"1:2"}
