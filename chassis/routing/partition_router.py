"""Replicas of one service: a call is answered where its partition is, whichever replica it came to.

A replica answers for the partitions that it owns. What is asked of others is passed on to their owners, and asked
again while partitions move, within the caller's deadline. A list is asked of all owners, each for its own partitions,
so that every partition is in it exactly once. A partition that is not ready here raises NotReady; it does not count as
empty. A replica that answers by itself pays nothing.
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
from chassis.rpc.call_deadline import remaining_s
from chassis.rpc.validation import invalid_fields
from eventlog.core.errors import NotReady
from eventlog.core.partitioner import partition_of

A = TypeVar("A")
R = TypeVar("R")

#: Seconds without an owner that is ready, after which the caller is told to call again: longer than a broker waits for
#: a member that died, and the next owner's recovery.
MAX_WAIT_S = 20.0
#: Calls that wait for an owner at most. One more is told at once to call again: they must not take all places.
MAX_WAITING = 500
#: Pauses between two attempts, in seconds.
FIRST_PAUSE_S = 0.02
MAX_PAUSE_S = 0.3

#: Part of a list: of these partitions; None: of all.
Partitions = Collection[int] | None


class Ownership(Protocol):
    """Who owns which partition; eventlog.processors.base.Processor is one."""

    partitions: int

    def owner(self, partition: int) -> str:
        """host:port of a partition's owner, as far as is known here; empty: not known."""
        ...


class LocalRouter:
    """A process without replicas: what it can't answer, nobody can."""

    def owner(self, key: str) -> str:
        """Address of a key's owner, where that is another replica; else empty."""
        return ""

    async def call_owner(
        self, method: str, where: str | int, request: Any, context: Context, here: Callable[[], Awaitable[A]]
    ) -> A:
        """The answer of the owner of `where`, a key or a partition. `here` answers in this process, or raises NotReady;
        it may be called several times, as may the method. Raises NotReady, and ApiError as the owner refuses."""
        return await here()

    async def scatter_gather(
        self, method: str, request: Any, context: Context, here: Callable[[Partitions], Awaitable[A]]
    ) -> list[A]:
        """Answers that together are about every partition exactly once. `here` answers for some, or raises NotReady."""
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
        """What the owner of a key streams, from owner to owner. `resumed` makes the request that goes on after an
        answer."""
        return here(request)

    async def close(self) -> None:
        """Ends what goes on with other replicas."""


class PartitionRouter(LocalRouter):
    """The replicas of one gRPC service, as the consumer group of its state has them."""

    def __init__(self, service: str, ownership: Ownership, address: str, to: ChannelFactory) -> None:
        """`service` is its full name, `address` our own in the group."""
        self._ownership = ownership
        self._address = address
        self._peers = PeerClient(service, to)
        #: Calls that wait for an owner.
        self.held = 0

    def owner(self, key: str) -> str:
        """See Alone."""
        partitions = self._ownership.partitions
        owner = self._ownership.owner(partition_of(key, partitions)) if partitions else ""
        return "" if owner == self._address else owner

    async def call_owner(
        self, method: str, where: str | int, request: Any, context: Context, here: Callable[[], Awaitable[A]]
    ) -> A:
        """See Alone."""
        try:
            return await here()
        except NotReady:
            if forwarded(context):
                raise
        partitions = self._ownership.partitions
        if isinstance(where, int) and partitions and not 0 <= where < partitions:
            raise invalid_fields([("", f"there is no partition {where}, they are {partitions}")])
        hold = OwnerRetry(self, context)
        while True:
            owner = self._owner(where)
            try:
                if owner == self._address:
                    return await here()
                if owner:
                    answer: A = await self._peers.call(owner, method, request, context, self._still(where, owner))
                    return answer
            except NotReady as error:
                hold.note(error)
            await hold.pause()

    async def scatter_gather(
        self, method: str, request: Any, context: Context, here: Callable[[Partitions], Awaitable[A]]
    ) -> list[A]:
        """See Alone."""
        asked = requested_partitions(context)
        try:
            return [await here(asked)]
        except NotReady:
            if asked is not None or forwarded(context):
                raise
        hold = OwnerRetry(self, context)
        while True:
            owned = self._by_owner()
            try:
                if owned:
                    return await self._parts(owned, method, request, context, here)
            except NotReady as error:
                hold.note(error)
            await hold.pause()

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
        """See Alone."""
        hold: OwnerRetry | None = None
        own = True
        while True:
            owner = self._owner(key)
            source = here(request) if own or owner == self._address else None
            if source is None and owner:
                source = self._peers.watch(owner, method, request, context, self._still(key, owner))
            own = False
            last: Any = None
            try:
                if source is not None:
                    async with aclosing(source):
                        async for last in source:
                            hold = None
                            yield last
                    return
            except NotReady as error:
                if forwarded(context):
                    raise
                hold = hold or OwnerRetry(self, context)
                hold.note(error)
            if last is not None:
                request = resumed(request, last)
            hold = hold or OwnerRetry(self, context)
            await hold.pause()

    def _still(self, where: str | int, owner: str) -> Callable[[], bool]:
        return lambda: self._owner(where) == owner

    async def close(self) -> None:
        """See Alone."""
        await self._peers.close()

    def _owner(self, where: str | int) -> str:
        partitions = self._ownership.partitions
        if not partitions:
            return ""
        return self._ownership.owner(where if isinstance(where, int) else partition_of(where, partitions))

    def _by_owner(self) -> dict[str, list[int]]:
        """Partitions by owner; empty as long as one has none."""
        found: dict[str, list[int]] = {}
        for partition in range(self._ownership.partitions):
            found.setdefault(self._ownership.owner(partition), []).append(partition)
        return {} if "" in found else found


class OwnerRetry:
    """The patience of one call that waits for an owner."""

    def __init__(self, replicas: PartitionRouter, context: Context) -> None:
        self._replicas = replicas
        self._error = NotReady("nobody is known to own the partition")
        left = remaining_s(context)
        self._since = self._noted = time.monotonic()
        self._deadline = self._since + (math.inf if left is None else left)
        self._pause_s = FIRST_PAUSE_S

    def note(self, error: NotReady) -> None:
        """An attempt has failed. One that lasted was with an owner that was ready for as long."""
        now = time.monotonic()
        if now - self._noted > MAX_PAUSE_S * 2:
            self._since, self._pause_s = now, FIRST_PAUSE_S
        self._error, self._noted = error, now

    async def pause(self) -> None:
        """Lets time pass before the next attempt. Raises NotReady where none is left, or too many wait already."""
        left = min(self._since + MAX_WAIT_S, self._deadline) - time.monotonic()
        if left <= 0 or self._replicas.held >= MAX_WAITING:
            raise self._error
        self._replicas.held += 1
        try:
            await asyncio.sleep(min(self._pause_s * random.uniform(0.5, 1.0), left))
        finally:
            self._replicas.held -= 1
        self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
        self._noted = time.monotonic()
