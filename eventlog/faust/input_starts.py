"""Where each partition of a processor's input starts in an epoch: rule R2 of consumer.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from eventlog.consuming.start_policy import BulkStartPolicy, InputOffsets, StartPolicy, at_committed
from eventlog.runtime import failpoints
from eventlog.runtime.abort import abort


class InputStarts(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer, which reads the committed offsets before a recovery reads the changelog's end."""

    #: Counts revocations and assignments.
    epoch = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._start: dict[TP, int] = {}
        #: Committed, first and end offset of the input when the epoch began.
        self._places: dict[TP, InputOffsets] = {}
        self._start_epoch = -1
        self._finding: tuple[int, asyncio.Task[None] | None] = (-1, None)

    def start_of(self, tp: TP) -> int | None:
        """Offset from which the current epoch reads a partition of the input; None: not known yet."""
        return self._start.get(tp) if self._start_epoch == self.epoch else None

    @property
    def starts_known(self) -> bool:
        """Whether the start policy has run in this epoch. `start_of` is None for a start that it left to the state."""
        return self._start_epoch == self.epoch

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Faust's hook, called at the start of a recovery: reads the committed offsets, then the ends of partitions."""
        await self._read_start()
        if failpoints.armed:
            failpoints.passed("start read, log's end not")
        return dict(await super().highwaters(*partitions))

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Faust's hook: first offsets of logs. Ends the process if a log begins after the end of its fold."""
        begins = dict(await super().earliest_offsets(*partitions))
        for table in self.app.tables.values():
            changelog = table.changelog_topic.get_topic_name()
            for tp, begin in begins.items():
                folded = table.data.persisted_offset(tp)
                if tp.topic == changelog and begin > folded + 1:
                    abort("the log was trimmed", topic=tp.topic, partition=tp.partition, folded=folded, begin=begin)
        return begins

    async def ends(self, tps: list[TP]) -> dict[TP, int]:
        """Ends of partitions, without reading the committed offsets."""
        return dict(await super().highwaters(*tps))

    async def _read_start(self) -> None:
        if self._start_epoch == self.epoch:
            return
        epoch, finding = self._finding
        if finding is None or epoch != self.epoch or finding.done():
            finding = asyncio.create_task(self._find_start(), name="start of the input")
            self._finding = self.epoch, finding
        # A policy may read for longer than a recovery step may take; the next attempt waits for the same task.
        await asyncio.shield(finding)

    async def _find_start(self) -> None:
        epoch = self.epoch
        inputs = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        policy: StartPolicy = getattr(self.app, "start_policy", at_committed)
        places = await self._thread.places(inputs)
        self._same_epoch(epoch)
        start: dict[TP, int] = {}
        if isinstance(policy, BulkStartPolicy):
            start.update(await policy.starts({tp: InputOffsets(*place) for tp, place in places.items()}))
            self._same_epoch(epoch)
        else:
            for tp, place in places.items():
                # On the main loop, since policies use their processor's state.
                found = policy(tp, *place)
                offset = await found if isinstance(found, Awaitable) else found
                self._same_epoch(epoch)
                if offset is not None:
                    start[tp] = offset
        self._places = {tp: InputOffsets(*place) for tp, place in places.items()}
        self._start, self._start_epoch = start, epoch

    def committed_at_start(self, tp: TP) -> int | None:
        """Offset that the group had committed when this epoch began; None: none."""
        place = self._places.get(tp)
        return None if place is None else place.committed

    def committed_and_begin(self, tp: TP) -> tuple[int | None, int]:
        """Committed offset and first offset in the log when this epoch began."""
        place = self._places[tp]
        return place.committed, place.begin

    def set_start(self, tp: TP, offset: int) -> None:
        """Sets the start of a partition whose policy left it to the state. Call it before the seek."""
        self._start[tp] = offset

    def _same_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            # Faust restarts its recovery at this error.
            raise IllegalStateError("rebalanced meanwhile")
