"""Runs a coroutine up to its first wait without a task.

Most deliveries of a batch never wait. A task for each, with the tasks that watch it, takes a tenth of a millisecond,
and a small batch takes little more than that.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any


class Waiting:
    """The rest of a coroutine that has begun to wait for something: await it."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: Any) -> None:
        """`awaited` is what the coroutine's first step yielded."""
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, awaited = self._coroutine, self._awaited
        thrown: BaseException | None
        while True:
            try:
                sent, thrown = (yield awaited), None
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001 - the coroutine's to handle
                sent, thrown = None, error
            try:
                awaited = coroutine.send(sent) if thrown is None else coroutine.throw(thrown)
            except StopIteration:
                return


def first_step(coroutine: Coroutine[Any, Any, None]) -> Waiting | None:
    """Runs a coroutine in the current task until it waits. Returns its rest; None if it has ended. Raises its error."""
    try:
        return Waiting(coroutine, coroutine.send(None))
    except StopIteration:
        return None
