"""The text of a scrape: all metrics of a process, from its collectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "Collect", "MetricsCollector"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
#: Reads plain numbers and makes samples of them.
Collect = Callable[[], Iterable[Family]]


class MetricsCollector(Collector):
    """The one collector of a process. Asked at a scrape, on the thread of the HTTP listener."""

    def __init__(self, parts: Sequence[Collect]) -> None:
        self._parts = tuple(parts)

    def collect(self) -> Iterator[Family]:
        """All metrics."""
        for part in self._parts:
            yield from part()

    def text(self) -> bytes:
        """All metrics as text, made one by one: the event loop may take the interpreter after each.

        As a whole it would keep the event loop waiting for several milliseconds.
        """
        found: list[bytes] = []
        for one in self.collect():
            found.append(generate_latest(_One(one)))
            time.sleep(0)
        return b"".join(found)


class _One(Collector):
    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterator[Family]:
        yield self._family
