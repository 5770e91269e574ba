"""Feeds outcomes that a statement shows through the payments' OperatorService, which records the operator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from ops.repair.service import operators

#: Sends one outcome to the payments of a group: (group, outcome).
SendFinding: TypeAlias = Callable[[str, ProviderOutcome], Awaitable[None]]


@asynccontextmanager
async def findings(target: str, reason: str) -> AsyncIterator[SendFinding]:
    """Sends outcomes to the payments service at host:port. Raises OpsError.

    An outcome has an order; a group and an order that are not ours are derived ids.
    """
    async with operators(target) as service:

        async def send(group: str, outcome: ProviderOutcome) -> None:
            name = f"groups/{group}/orders/{outcome.order}/payment"
            await service.call("FeedOutcome", pb.FeedOutcomeRequest(name=name, reason=reason, outcome=outcome))

        yield send
