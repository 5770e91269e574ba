"""Faust table store that keeps partition states: the fold of the event log, never ahead of what it was folded from.

S1  The offset it answers with is the one its state was really folded to, or -1: recovery never starts past it.
S2  A batch of the changelog must continue the state; a hole or a version gap ends the process, since Faust would only
    log it and lose the batch.
S3  An active partition is folded to the end that was read at the start of recovery, and not beyond.
S4  A partition may be used only between the end of its recovery and the next revocation, in that epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from faust.stores import base
from faust.types import TP

from eventlog import crashpoints
from eventlog.crash import die
from eventlog.partition import PartitionState

log = logging.getLogger(__name__)


class FoldStore(base.Store):  # type: ignore[misc]
    """Partition states of one table. The table's `make_state` makes an empty one for a partition."""

    # The library announces its every step here: its chatter, under its name.
    logger = logging.getLogger("faust.eventlog")

    def __post_init__(self) -> None:
        """Faust's hook."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._states: dict[int, PartitionState[Any]] = {}
        self._epochs: dict[int, int] = {}

    @property
    def _log_topic(self) -> str:
        return str(self.table.changelog_topic.get_topic_name())

    def ready(self, partition: int, epoch: int) -> PartitionState[Any] | None:
        """State of a partition that is ours in this epoch and recovered; otherwise None."""
        return self._states[partition] if self._epochs.get(partition) == epoch else None

    def owned(self, epoch: int) -> list[PartitionState[Any]]:
        """States of all partitions that are ours in this epoch and recovered."""
        return [state for partition, state in self._states.items() if self._epochs.get(partition) == epoch]

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
                if state is None:
                    continue
                end = recovery.active_highwaters.get(tp) if tp in recovery.active_tps else None
                for record in message.value:
                    if end is not None and record.offset > end:
                        break
                    state.apply(record)
            if crashpoints.armed:
                crashpoints.passed("changelog folded")
        except BaseException as error:  # noqa: BLE001 - the process ends here
            die("the event log can't be folded", error)

    def persisted_offset(self, tp: TP) -> int:
        """Offset up to which the state of a partition is really folded; -1: nothing."""
        state = self._states.get(tp.partition)
        return -1 if state is None else state.applied

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Faust's own count; ours is in the state."""

    def reset_state(self) -> None:
        """Forgets everything."""
        for state in self._states.values():
            state.close()
        self._states.clear()
        self._epochs.clear()

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Drops what is not ours; what stays may not be used before it is recovered again."""
        mine = {tp.partition for tp in assigned if tp.topic == self._log_topic}
        for partition in [one for one in self._states if one not in mine]:
            self._states.pop(partition).close()
        self._epochs.clear()
        for partition in mine:
            if partition not in self._states:
                self._states[partition] = self.table.make_state(partition)

    async def on_recovery_completed(self, active: set[TP], standby: set[TP]) -> None:
        """Lets active partitions be used, from where their input starts."""
        consumer = self.table.app.consumer
        ends = self.table.app.tables.recovery.active_highwaters
        epoch = consumer.epoch
        inputs = {tp.partition: tp for tp in consumer.assignment() if not consumer._is_changelog_tp(tp)}
        input_ends = await consumer.ends(list(inputs.values()))
        if consumer.epoch != epoch:
            return
        for tp in active:
            state = self._states.get(tp.partition)
            source = inputs.get(tp.partition)
            start = None if source is None else consumer.start_of(source)
            if state is None or source is None or start is None:
                # A newer rebalance is under way and will come here again.
                continue
            if state.applied < ends.get(tp, -1):
                die("recovery ended too early", topic=tp.topic, partition=tp.partition, at=state.applied)
            end = input_ends[source]
            if state.greatest_cause >= end:
                die(
                    "the inbox ends before what was decided from it",
                    topic=source.topic,
                    partition=source.partition,
                    end=end,
                    cause=state.greatest_cause,
                )
            if crashpoints.armed:
                crashpoints.passed("partition recovered")
            state.next_input = start
            self._epochs[tp.partition] = epoch
            log.info("%s-%s ready: %s aggregates, log %s, input %s", *tp, len(state), state.applied, start)
        self.table.on_ready()

    async def backup_partition(self, *args: Any, **kwargs: Any) -> None:
        """Not a thing for state that is a fold."""
        raise NotImplementedError("the event log is the backup")

    def restore_backup(self, *args: Any, **kwargs: Any) -> None:
        """Not a thing for state that is a fold."""
        raise NotImplementedError("the event log is the backup")

    def _clear(self) -> None:
        self.reset_state()

    def __len__(self) -> int:
        return sum(len(state) for state in self._states.values())

    def __getitem__(self, key: Any) -> Any:
        raise KeyError(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotImplementedError("state is changed by decisions alone")

    def __delitem__(self, key: Any) -> None:
        raise NotImplementedError("state is changed by decisions alone")

    def __iter__(self) -> Iterator[Any]:
        return iter(())
