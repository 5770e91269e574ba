"""Finds connections whose calls are reset before the event loop takes them, while they do it.

Such a call costs the peer 100 bytes and the event loop 0.3 ms: a flood of 15,000 a second makes every other call wait.
channelz counts the resets of a connection only as the event loop takes them, and counting takes longer the more
connections there are (chassis/admission/connections.py). So each call that arrives dead is counted here.

A client that cancels what it waits for is no flood: its calls have reached a handler.

Used on the event loop's thread only.
"""

from __future__ import annotations

from collections.abc import Callable

#: Calls of one connection that arrive dead within a window, from which it floods if they are 90 % of its calls. The
#: event loop takes them in 20 ms.
MAX_DEAD = 64


class ResetFloods:
    """The calls of a window of time by connection, named as gRPC names its peer."""

    def __init__(self) -> None:
        self._dead: dict[str, int] = {}
        self._answered: dict[str, int] = {}
        #: Called with the peer of a connection that floods, once in a window.
        self.on_flood: Callable[[str], None] = lambda peer: None

    def __bool__(self) -> bool:
        """Whether answers have to be counted: a call has arrived dead in this window."""
        return bool(self._dead)

    def dead(self, peer: str) -> None:
        """Counts a call that was reset before its request was read."""
        count = self._dead[peer] = self._dead.get(peer, 0) + 1
        if count == MAX_DEAD and count >= 9 * self._answered.get(peer, 0):
            self.on_flood(peer)

    def answered(self, peer: str) -> None:
        """Counts a call that is answered."""
        self._answered[peer] = self._answered.get(peer, 0) + 1

    def next_window(self) -> None:
        """Begins the next window."""
        if self._dead:
            self._dead, self._answered = {}, {}
