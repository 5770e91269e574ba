"""The calls of an attack and the count of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc

ORDER, GROUP, CAMPAIGN, LINK, PAYMENT = (
    f"/groupbuy.{name}"
    for name in (
        "orders.v1.OrderService/",
        "groups.v1.GroupService/",
        "groups.v1.CampaignService/",
        "groups.v1.LinkService/",
        "payments.v1.PaymentService/",
    )
)
HEALTH, CHANNELZ = "/grpc.health.v1.Health/", "/grpc.channelz.v1.Channelz/"
#: Status codes that refuse a call.
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    # From gRPC itself, in a flood.
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNAVAILABLE,
}

Try = Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class Outcome:
    """The number of attempts, and how many of them were refused, ended or cut off."""

    tried: int = 0
    refused: int = 0
    #: Other answers, by code and text.
    others: dict[str, int] = field(default_factory=dict)

    def add(self, answer: str | None) -> None:
        """Counts an answer; None means refused."""
        self.tried += 1
        if answer is None:
            self.refused += 1
        else:
            self.others[answer] = self.others.get(answer, 0) + 1

    def join(self, other: Outcome) -> None:
        """Adds the counts of another outcome."""
        self.tried += other.tried
        self.refused += other.refused
        for answer, times in other.others.items():
            self.others[answer] = self.others.get(answer, 0) + times


async def answer(call: Awaitable[Any]) -> str | None:
    """Code and text of a call's answer; None if it was refused."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return None if error.code() in REFUSALS else f"{error.code().name} {error.details()}"
    return "OK"


async def at_rate(calls: Iterable[Callable[[], Awaitable[Any]]], rate: float) -> Outcome:
    """Makes `rate` calls a second, without waiting for answers.

    The rate stays below the service's capacity: overload would be a different attack.
    """
    outcome = Outcome()
    loop = asyncio.get_running_loop()

    async def one(call: Callable[[], Awaitable[Any]]) -> None:
        outcome.add(await answer(call()))

    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number, call in enumerate(calls):
            await asyncio.sleep(max(began + number / rate - loop.time(), 0.0))
            tasks.create_task(one(call))
    return outcome


def raw(channel: grpc.aio.Channel, method: str, data: bytes, within_s: float = 30.0) -> Try:
    """A call with these bytes as its request."""
    call: Any = channel.unary_unary(method, None, None)
    return lambda: call(data, timeout=within_s)
