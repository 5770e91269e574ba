"""A page that changes while it is open: its regions, and frames with what changed since a version.

A page consists of *parts*, replaced as a whole, and *lists* of keyed items. A browser gets what changed since
the version that it has, so a slow or reconnected one misses nothing. All browsers of one page share the frames.
Frames come at once after a quiet time, and more rarely the busier the page is.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

#: Seconds between two frames: at least, and while much changes.
MIN_INTERVAL_S = 0.2
MAX_INTERVAL_S = 1.0
#: Changes within one frame from which the page counts as busy.
BUSY = 20
_MAX_PREFIXES = 256


class _List:
    """Keyed items in an order."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        #: Version of the last change, and HTML, by key.
        self.items: dict[str, tuple[int, str]] = {}
        #: Version of each change of the order, and how many first keys it left alone.
        self._prefixes: list[tuple[int, int]] = []

    def set(self, items: Sequence[tuple[str, str]], version: int) -> bool:
        """Replaces the content. Returns whether it differs."""
        keys = [key for key, _ in items]
        changed = False
        fresh: dict[str, tuple[int, str]] = {}
        for key, html in items:
            known = self.items.get(key)
            if known is None or known[1] != html:
                known = (version, html)
                changed = True
            fresh[key] = known
        if keys != self.keys:
            changed = True
            common = next(
                (at for at, (old, new) in enumerate(zip(self.keys, keys, strict=False)) if old != new),
                min(len(self.keys), len(keys)),
            )
            self._prefixes.append((version, common))
            del self._prefixes[:-_MAX_PREFIXES]
        self.keys, self.items = keys, fresh
        return changed

    def since(self, version: int) -> dict[str, Any] | None:
        """The changes after a version; None: there are none."""
        items = {key: html for key, (changed, html) in self.items.items() if changed > version}
        keep = self._kept(version)
        if not items and keep is None:
            return None
        found: dict[str, Any] = {"items": items}
        if keep is not None:
            found |= {"keep": keep, "keys": self.keys[keep:]}
        return found

    def _kept(self, version: int) -> int | None:
        """The number of first keys that were the same at a version; None: all, and no others came."""
        if not version or (len(self._prefixes) == _MAX_PREFIXES and self._prefixes[0][0] > version):
            return 0
        later = [common for changed, common in self._prefixes if changed > version]
        return min(later) if later else None


class Channel:
    """The content of one page, shared by everybody who looks at it. Subclasses fill it in `refresh`."""

    def __init__(self) -> None:
        #: Distinguishes the versions of this process from those of an earlier one.
        self.epoch = secrets.token_hex(4)
        self.version = 0
        self.viewers = 0
        self.frames = 0
        self._parts: dict[str, tuple[int, str]] = {}
        self._lists: dict[str, _List] = {}
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._flushed_s = 0.0
        self._interval_s = MIN_INTERVAL_S
        self._weight = 0
        self._dirty = False
        self._cached: tuple[int, dict[int, bytes]] = (0, {})

    # --- for subclasses ----------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Loads what the first view of the page needs."""

    def refresh(self) -> None:
        """Sets all parts and lists."""

    async def close(self) -> None:
        """Ends what the channel follows."""

    def set_part(self, name: str, html: str) -> None:
        """Sets the HTML within the element with the id `name`."""
        if (known := self._parts.get(name)) is None or known[1] != html:
            self._parts[name] = (self.version + 1, html)
            self._dirty = True

    def set_list(self, name: str, items: Sequence[tuple[str, str]]) -> None:
        """Sets the items within the element with the id `name`: key and HTML of each."""
        if self._lists.setdefault(name, _List()).set(items, self.version + 1):
            self._dirty = True

    # --- changes -----------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Refreshes the content now."""
        self._dirty = False
        self.refresh()
        if self._dirty:
            self.version += 1
            self.frames += 1
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def touch(self, weight: int = 0) -> None:
        """Something changed: refreshes the content soon, if anybody looks at it."""
        self._weight += weight
        if not self.viewers or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(max(loop.time(), self._flushed_s + self._interval_s), self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._flushed_s = asyncio.get_running_loop().time()
        busy, self._weight = self._weight >= BUSY, 0
        self._interval_s = min(MAX_INTERVAL_S, 2 * self._interval_s) if busy else MIN_INTERVAL_S
        self.update()

    # --- for browsers ------------------------------------------------------------------------------------------------

    def part(self, name: str) -> str:
        """The HTML of a part."""
        known = self._parts.get(name)
        return known[1] if known else ""

    def items(self, name: str) -> Iterable[str]:
        """The HTML of the items of a list."""
        known = self._lists.get(name)
        return [known.items[key][1] for key in known.keys] if known else []

    @property
    def tag(self) -> str:
        """Names the present version: `id` of an event, and `Last-Event-ID` of a browser that comes back."""
        return f"{self.epoch}.{self.version}"

    def version_of(self, tag: str) -> int:
        """The version that a tag names; 0: it is not one of ours."""
        epoch, _, number = tag.partition(".")
        if epoch != self.epoch or not number.isascii() or not number.isdecimal():
            return 0
        return min(int(number), self.version) if len(number) < 18 else 0

    def frame(self, since: int) -> bytes:
        """An event with all that changed after a version."""
        at, frames = self._cached
        if at != self.version:
            frames = {}
            self._cached = self.version, frames
        if since not in frames:
            frames[since] = self._frame(since)
        return frames[since]

    def _frame(self, since: int) -> bytes:
        parts = {name: html for name, (version, html) in self._parts.items() if version > since}
        lists = {name: found for name, one in self._lists.items() if (found := one.since(since)) is not None}
        data = json.dumps({"parts": parts, "lists": lists}, ensure_ascii=False, separators=(",", ":"))
        return f"id: {self.tag}\ndata: {data}\n\n".encode()

    async def wait_newer(self, version: int) -> None:
        """Returns once there is a newer version."""
        while self.version <= version:
            await self._changed.wait()
