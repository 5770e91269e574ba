"""Faust table store of partition states: each state is the fold of the event log.

S1  The persisted offset is the offset to which the state is folded, or -1, so recovery never starts after it.
S2  A changelog batch continues the state. A hole ends the process, since Faust would log it and lose the batch. A
    record that no decider can have written stops its partition alone, which is then not used.
S3  An active partition is folded to the end that was read at the start of recovery, and not beyond.
S4  A partition is used only between the end of its recovery and the next revocation, in that epoch.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from aiokafka.errors import KafkaError
from faust.stores import base
from faust.types import TP

from eventlog.consuming.start_policy import after_cause
from eventlog.core.errors import Poisoned
from eventlog.core.partition_state import PartitionState
from eventlog.runtime import failpoints
from eventlog.runtime.abort import abort

log = logging.getLogger(__name__)

#: Seconds between two queries to a broker that does not answer at the end of a recovery.
RETRY_S = 0.2


class FoldStore(base.Store):  # type: ignore[misc]
    """Partition states of one table.

    The table's `open_states` yields (partition, state) for partitions, as their states are on disk. Its `adopt`, if not
    None, returns a state that was folded before the partition was assigned. Its `release` receives the state of a
    partition that went to another process, with everything acknowledged. Both may return awaitables.
    """

    # Faust logs every step here; under its own name the level can be set.
    logger = logging.getLogger("faust.eventlog")

    def __post_init__(self) -> None:
        """Faust's hook."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._states: dict[int, PartitionState[Any]] = {}
        self._epochs: dict[int, int] = {}
        #: Epoch in which all active partitions last became ready.
        self.recovered_epoch = -1
        #: Counts calls of `reset_state`.
        self._resets = 0

    @property
    def _log_topic(self) -> str:
        return str(self.table.changelog_topic.get_topic_name())

    def ready(self, partition: int, epoch: int) -> PartitionState[Any] | None:
        """State of a partition that this process owns in this epoch and has recovered; otherwise None."""
        state = self._states[partition] if self._epochs.get(partition) == epoch else None
        return state if state is not None and state.poisoned is None else None

    def owned(self, epoch: int) -> list[PartitionState[Any]]:
        """States of all partitions that this process owns in this epoch and has recovered."""
        return [
            state
            for partition, state in self._states.items()
            if self._epochs.get(partition) == epoch and state.poisoned is None
        ]

    def stopped(self, partition: int) -> PartitionState[Any] | None:
        """State of a partition that is stopped by a record of its log or of its input; otherwise None."""
        state = self._states.get(partition)
        return state if state is not None and state.poisoned is not None else None

    def exchange(self, partition: int, state: PartitionState[Any]) -> None:
        """Replaces the closed state of a stopped partition."""
        self._states[partition] = state

    def holds(self, partition: int) -> bool:
        """Whether the state of a partition is open here."""
        return partition in self._states

    # Faust's protocol -------------------------------------------------------------------------------------------

    def apply_changelog_batch(
        self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Folds fetched batches of the log into their partitions' states."""
        try:
            recovery = self.table.app.tables.recovery
            for event in batch:
                message = event.message
                tp = message.tp
                state = self._states.get(tp.partition)
                if state is None or state.poisoned is not None:
                    continue
                end = recovery.active_highwaters.get(tp) if tp in recovery.active_tps else None
                for record in message.value:
                    if end is not None and record.offset > end:
                        break
                    try:
                        state.apply(record)
                    except Poisoned as poisoned:
                        # `on_recovery_completed` stops the partition.
                        state.poisoned = poisoned
                        log.critical("the event log can't be folded: %s", poisoned)
                        break
            if failpoints.armed:
                failpoints.passed("changelog folded")
        except BaseException as error:  # noqa: BLE001 - the process ends here
            abort("the event log can't be folded", error)

    def persisted_offset(self, tp: TP) -> int:
        """Faust's hook: offset to which the state of a partition is folded; -1: nothing."""
        state = self._states.get(tp.partition)
        return -1 if state is None else state.applied

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Faust's hook, unused: the state has its own offset."""

    def reset_state(self) -> None:
        """Faust's hook: closes and removes all states."""
        for state in self._states.values():
            state.close()
        self._states.clear()
        self._epochs.clear()
        self._resets += 1

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Faust's hook: removes lost partitions. Those that stay are used again after their next recovery."""
        mine = {tp.partition for tp in assigned if tp.topic == self._log_topic}
        self._epochs.clear()
        for partition in [one for one in self._states if one not in mine]:
            await self._release(partition, self._states.pop(partition))
        for partition in [one for one, state in self._states.items() if state.poisoned is not None]:
            # Folded again from the state on disk: another build, or a skip, may get past the record.
            self._states.pop(partition).close()
        try:
            await self._open([partition for partition in sorted(mine) if partition not in self._states])
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the process ends here
            abort("the partitions' states can't be opened", error, log=self._log_topic)

    async def _release(self, partition: int, state: PartitionState[Any]) -> None:
        release = getattr(self.table, "release", None)
        if release is not None and state.fully_acknowledged and state.poisoned is None:
            await _result(release(partition, state))
        else:
            state.close()

    async def _open(self, partitions: Collection[int]) -> None:
        adopt = getattr(self.table, "adopt", None)
        resets = self._resets
        missing = []
        for partition in partitions:
            state = None if adopt is None else await _result(adopt(partition))
            if state is None:
                missing.append(partition)
            else:
                self._add(partition, state, resets)
        if missing:
            async for partition, state in self.table.open_states(missing):
                self._add(partition, state, resets)

    def _add(self, partition: int, state: PartitionState[Any], resets: int) -> None:
        if resets == self._resets:
            self._states[partition] = state
        else:
            # The store was reset meanwhile.
            state.close()

    async def on_recovery_completed(self, active: set[TP], standby: set[TP]) -> None:
        """Faust's hook: makes active partitions ready. An error ends the process, since Faust would swallow it."""
        try:
            await self._make_ready(active)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the process ends here
            abort("the recovery could not be completed", error, log=self._log_topic)

    async def _make_ready(self, active: set[TP]) -> None:
        consumer = self.table.app.consumer
        ends = self.table.app.tables.recovery.active_highwaters
        epoch = consumer.epoch
        inputs = {tp.partition: tp for tp in consumer.assignment() if not consumer._is_changelog_tp(tp)}
        input_ends = await self._queried(epoch, lambda: consumer.ends(list(inputs.values())))
        if input_ends is None or not consumer.starts_known:
            # A newer rebalance is in progress and will call this again.
            return
        all_ready = True
        for tp in active:
            state = self._states.get(tp.partition)
            source = inputs.get(tp.partition)
            if state is None or source is None:
                # The assignment has changed, and the main thread is about to learn of it.
                all_ready = False
                continue
            if state.poisoned is None and state.applied < ends.get(tp, -1):
                abort("recovery ended too early", topic=tp.topic, partition=tp.partition, at=state.applied)
            end = input_ends[source]
            start = consumer.start_of(source)
            if state.poisoned is None and state.greatest_cause >= end:
                reason = f"the inbox ends at {end}, before input {state.greatest_cause} that was decided"
                state.poisoned = Poisoned.for_record(tp.topic, tp.partition, state.applied, None, reason)
            committed, begin = consumer.committed_and_begin(source)
            if state.poisoned is not None:
                if start is None:
                    consumer.set_start(source, begin)
                self._epochs[tp.partition] = epoch
                self.table.on_poisoned(state.poisoned, epoch)
                continue
            if start is None:
                start = after_cause(source, state.greatest_cause, committed, begin, end)
                consumer.set_start(source, start)
            if failpoints.armed:
                failpoints.passed("partition recovered")
            state.next_input = start
            self._epochs[tp.partition] = epoch
            log.info("%s-%s ready: %s aggregates, log %s, input %s", *tp, len(state), state.applied, start)
        if all_ready:
            self.recovered_epoch = epoch
        self.table.on_ready()

    async def _queried(self, epoch: int, query: Callable[[], Any]) -> Mapping[TP, int] | None:
        """Retries a query until the broker answers. None: the epoch has ended."""
        consumer = self.table.app.consumer
        while consumer.epoch == epoch:
            try:
                found: Mapping[TP, int] = await query()
            except KafkaError as error:
                log.warning("the end of the inbox is not known yet, retrying: %r", error)
                await asyncio.sleep(RETRY_S)
            else:
                return found if consumer.epoch == epoch else None
        return None

    async def backup_partition(self, *args: Any, **kwargs: Any) -> None:
        """Faust's hook, not supported: the state is a fold of the log."""
        raise NotImplementedError("the event log is the backup")

    def restore_backup(self, *args: Any, **kwargs: Any) -> None:
        """Faust's hook, not supported: the state is a fold of the log."""
        raise NotImplementedError("the event log is the backup")

    def _clear(self) -> None:
        self.reset_state()

    def __len__(self) -> int:
        return sum(len(state) for state in self._states.values())

    def __getitem__(self, key: Any) -> Any:
        raise KeyError(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotImplementedError("only decisions change the state")

    def __delitem__(self, key: Any) -> None:
        raise NotImplementedError("only decisions change the state")

    def __iter__(self) -> Iterator[Any]:
        return iter(())


async def _result(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found
