"""Routing between the replicas of one service: a call is answered by the owner of its partition.

A replica answers for the partitions that it owns and forwards other calls to the owner. While partitions move it
retries, within the caller's deadline. A list is gathered from all owners, each for its own partitions, so that every
partition is in it exactly once. A partition that is not ready raises NotReady; it does not count as empty. A call that
is answered locally has no overhead.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from chassis.routing.peer_calls import ChannelFactory, Context, PeerClient, forwarded, requested_partitions
from chassis.rpc.streaming.call_deadline import remaining_s
from chassis.rpc.validation import invalid_field
from eventlog.core.errors import NotReady
from eventlog.core.partitioner import partition_of

A = TypeVar("A")
R = TypeVar("R")

#: Seconds without a ready owner after which the caller gets NotReady: longer than the session timeout of a dead member
#: and the next owner's recovery.
MAX_WAIT_S = 20.0
#: Calls that wait for an owner. Further calls get NotReady at once, so that waiting calls do not take all slots.
MAX_WAITING = 500
#: Bounds in seconds of the pause between two attempts.
FIRST_PAUSE_S = 0.02
MAX_PAUSE_S = 0.3

#: The partitions of a part of a list; None for all.
Partitions = Collection[int] | None


class Ownership(Protocol):
    """The owners of the partitions; eventlog.processors.base.Processor implements it."""

    partitions: int

    def owner(self, partition: int) -> str:
        """host:port of a partition's owner; empty if it is not known here."""
        ...


class LocalRouter:
    """The router of a process without replicas: answers every call locally."""

    def owner(self, key: str) -> str:
        """Address of a key's owner if that is another replica; else empty."""
        return ""

    async def call_owner(
        self, method: str, where: str | int, request: Any, context: Context, here: Callable[[], Awaitable[A]]
    ) -> A:
        """Returns the answer of the owner of `where`, a key or a partition.

        `here` answers in this process or raises NotReady. Both `here` and the method may be called several times.
        Raises NotReady, and ApiError as the owner does.
        """
        return await here()

    async def scatter_gather(
        self, method: str, request: Any, context: Context, here: Callable[[Partitions], Awaitable[A]]
    ) -> list[A]:
        """Returns answers that together cover every partition exactly once.

        `here` answers for some partitions in this process or raises NotReady.
        """
        return [await here(None)]

    def watch(
        self,
        method: str,
        key: str,
        request: R,
        context: Context,
        here: Callable[[R], AsyncGenerator[Any]],
        resumed: Callable[[R, Any], R],
    ) -> AsyncGenerator[Any]:
        """The stream of a key's owner, continued at the next owner when the key moves.

        `resumed(request, answer)` returns the request that continues after an answer.
        """
        return here(request)

    async def close(self) -> None:
        """Closes the connections to other replicas."""


class PartitionRouter(LocalRouter):
    """Routes the calls of one gRPC service to the members of its consumer group."""

    def __init__(self, service: str, ownership: Ownership, address: str, channels: ChannelFactory) -> None:
        """`service` is its full name, `address` this process's address in the group."""
        self._ownership = ownership
        self._address = address
        self._peers = PeerClient(service, channels)
        #: Calls that wait for an owner.
        self.waiting = 0

    def owner(self, key: str) -> str:
        """See LocalRouter."""
        partitions = self._ownership.partitions
        owner = self._ownership.owner(partition_of(key, partitions)) if partitions else ""
        return "" if owner == self._address else owner

    async def call_owner(
        self, method: str, where: str | int, request: Any, context: Context, here: Callable[[], Awaitable[A]]
    ) -> A:
        """See LocalRouter."""
        try:
            return await here()
        except NotReady:
            if forwarded(context):
                raise
        partitions = self._ownership.partitions
        if isinstance(where, int) and partitions and not 0 <= where < partitions:
            raise invalid_field("", f"there is no partition {where}: there are {partitions}")
        retry = OwnerRetry(self, context)
        while True:
            owner = self._owner(where)
            try:
                if owner == self._address:
                    return await here()
                if owner:
                    answer: A = await self._peers.call(owner, method, request, context, self._still(where, owner))
                    return answer
            except NotReady as error:
                retry.failed(error)
            await retry.pause()

    async def scatter_gather(
        self, method: str, request: Any, context: Context, here: Callable[[Partitions], Awaitable[A]]
    ) -> list[A]:
        """See LocalRouter."""
        requested = requested_partitions(context)
        try:
            return [await here(requested)]
        except NotReady:
            if requested is not None or forwarded(context):
                raise
        retry = OwnerRetry(self, context)
        while True:
            owned = self._by_owner()
            try:
                if owned:
                    return await self._parts(owned, method, request, context, here)
            except NotReady as error:
                retry.failed(error)
            await retry.pause()

    async def _parts(
        self,
        owned: dict[str, list[int]],
        method: str,
        request: Any,
        context: Context,
        here: Callable[[Partitions], Awaitable[A]],
    ) -> list[A]:
        async def part(owner: str, partitions: list[int]) -> Any:
            if owner == self._address:
                return await here(partitions)
            return await self._peers.call(
                owner, method, request, context, lambda: self._by_owner().get(owner) == partitions, partitions
            )

        parts = [asyncio.ensure_future(part(*one)) for one in owned.items()]
        try:
            answers: list[A] = await asyncio.gather(*parts)
            return answers
        finally:
            for one in parts:
                one.cancel()

    async def watch(
        self,
        method: str,
        key: str,
        request: R,
        context: Context,
        here: Callable[[R], AsyncGenerator[Any]],
        resumed: Callable[[R, Any], R],
    ) -> AsyncGenerator[Any]:
        """See LocalRouter."""
        retry: OwnerRetry | None = None
        first = True
        while True:
            owner = self._owner(key)
            source = here(request) if first or owner == self._address else None
            if source is None and owner:
                source = self._peers.watch(owner, method, request, context, self._still(key, owner))
            first = False
            last: Any = None
            try:
                if source is not None:
                    async with aclosing(source):
                        async for last in source:
                            retry = None
                            yield last
                    return
            except NotReady as error:
                if forwarded(context):
                    raise
                retry = retry or OwnerRetry(self, context)
                retry.failed(error)
            if last is not None:
                request = resumed(request, last)
            retry = retry or OwnerRetry(self, context)
            await retry.pause()

    def _still(self, where: str | int, owner: str) -> Callable[[], bool]:
        return lambda: self._owner(where) == owner

    async def close(self) -> None:
        """See LocalRouter."""
        await self._peers.close()

    def _owner(self, where: str | int) -> str:
        partitions = self._ownership.partitions
        if not partitions:
            return ""
        return self._ownership.owner(where if isinstance(where, int) else partition_of(where, partitions))

    def _by_owner(self) -> dict[str, list[int]]:
        """Partitions by owner; empty while a partition has no known owner."""
        found: dict[str, list[int]] = {}
        for partition in range(self._ownership.partitions):
            found.setdefault(self._ownership.owner(partition), []).append(partition)
        return {} if "" in found else found


class OwnerRetry:
    """The retries of one call that waits for an owner.

    Not stamina: the pauses are limited by the number of waiting calls, and the back-off starts anew after an attempt
    that an owner served for a while.
    """

    def __init__(self, router: PartitionRouter, context: Context) -> None:
        self._router = router
        self._error = NotReady("the partition has no known owner")
        left = remaining_s(context)
        self._since = self._last_attempt = time.monotonic()
        self._deadline = self._since + (math.inf if left is None else left)
        self._pause_s = FIRST_PAUSE_S

    def failed(self, error: NotReady) -> None:
        """Records a failed attempt. After a long one the owner was ready meanwhile, and the back-off starts anew."""
        now = time.monotonic()
        if now - self._last_attempt > MAX_PAUSE_S * 2:
            self._since, self._pause_s = now, FIRST_PAUSE_S
        self._error, self._last_attempt = error, now

    async def pause(self) -> None:
        """Waits before the next attempt. Raises NotReady if no time is left or too many calls wait."""
        left = min(self._since + MAX_WAIT_S, self._deadline) - time.monotonic()
        if left <= 0 or self._router.waiting >= MAX_WAITING:
            raise self._error
        self._router.waiting += 1
        try:
            await asyncio.sleep(min(self._pause_s * random.uniform(0.5, 1.0), left))
        finally:
            self._router.waiting -= 1
        self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
        self._last_attempt = time.monotonic()
