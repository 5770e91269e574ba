"""The interface between effects and a domain: the external calls that decisions request, and their results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

C = TypeVar("C")


class Effect(NamedTuple, Generic[C]):
    """An external call. The calls of one lane are made one after the other."""

    lane: str
    call: C


class EffectResult(NamedTuple):
    """The result of a call: value and headers of an inbox record."""

    value: bytes
    headers: Sequence[tuple[str, bytes]]


class EffectHandler(Protocol[C]):
    """The calls of one domain."""

    def effects_of(self, record: Any) -> Iterable[Effect[C]]:
        """The calls that a decision record requests."""
        ...

    async def perform(self, key: str, call: C) -> EffectResult:
        """Makes a call; ends within seconds. A failure is a result, and so is a call that can't be completed now.

        The decider retries the latter later. An exception ends the process, also a CancelledError from inside the call:
        grpc.aio raises one when its channel closes.
        """
        ...
