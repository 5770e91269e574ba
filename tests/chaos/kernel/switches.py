"""The kernel's fixes, each of which can be switched off in a worker or a test run, to see which run detects that.

`EVENTLOG_SWITCHED_OFF=name` switches one off. The product has no such switch: this module replaces the fix by the code
before it, or by Faust's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from faust.transport.drivers import aiokafka as driver

from eventlog.core import aggregate, partition_state
from eventlog.core.aggregate import Aggregate, Domain
from eventlog.faust import consumer_thread
from eventlog.faust.consumer import BatchConsumer
from eventlog.faust.table_store import FoldStore
from eventlog.processors.base import Processor
from eventlog.producing.batch_output import Output

VARIABLE = "EVENTLOG_SWITCHED_OFF"


def _replace(target: Any, name: str, by: Any) -> None:
    assert hasattr(target, name), f"{name} was renamed, so this replaces nothing"
    setattr(target, name, by)


def split_decisions() -> None:
    """Writes each event as a record of its own, those of one decision in different batches."""
    decide, append = aggregate.decide, Output.append

    def decide_in_parts(domain: Domain[Any], one: Aggregate[Any], value: bytes, offset: int, time_ms: int) -> Any:
        version, digest = one.version, one.digest
        whole = decide(domain, one, value, offset, time_ms)
        if whole is None:
            return None
        parts = []
        for event in json.loads(whole)[5]:
            version += 1
            part = domain.encode_decision(one.key, version, offset, one.time_ms, digest, [event])
            digest = sha256(part).digest()
            parts.append(part)
        one.version, one.digest = version, digest
        return parts

    def append_parts(self: Output, key: bytes | None, value: Any, headers: Any) -> None:
        for n, part in enumerate(value if isinstance(value, list) else [value]):
            if n and self._open is not None:
                self._close_batch()
            append(self, key, part, headers)

    _replace(partition_state, "decide", decide_in_parts)
    _replace(Output, "append", append_parts)


def deliver_whatever_comes() -> None:
    """Delivers every batch, whether or not it continues the one before."""
    _replace(BatchConsumer, "_continuing", lambda self, tp, records: records)


def fold_past_the_end() -> None:
    """Folds an active partition beyond the end that was read at the start of the recovery."""

    def apply_changelog_batch(self: FoldStore, batch: Any, to_key: Any, to_value: Any) -> None:
        for event in batch:
            state = self._states.get(event.message.tp.partition)
            if state is not None:
                for record in event.message.value:
                    state.apply(record)

    _replace(FoldStore, "apply_changelog_batch", apply_changelog_batch)


def end_too_early() -> None:
    """Leaves out the last fetched batch of a recovery."""
    fold = FoldStore.apply_changelog_batch

    def apply_changelog_batch(self: FoldStore, batch: Any, to_key: Any, to_value: Any) -> None:
        fold(self, list(batch)[:-1], to_key, to_value)

    _replace(FoldStore, "apply_changelog_batch", apply_changelog_batch)


def generation_for_epoch() -> None:
    """Takes the group's generation for the epoch; a static member keeps its generation when it rejoins."""
    revoked, assigned = driver_hook("on_partitions_revoked"), driver_hook("on_partitions_assigned")

    def forget(self: BatchConsumer) -> None:
        self._next.clear()
        self._in_flight.clear()
        self._armed, self._missed = {}, set()

    async def on_partitions_revoked(self: BatchConsumer, tps: Any) -> None:
        self.app.on_rebalance_start()
        forget(self)
        await revoked(self, tps)

    async def on_partitions_assigned(self: BatchConsumer, tps: Any, generation_id: int = 0) -> None:
        forget(self)
        self.app.consumer_generation_id = self.epoch = self._assigned_epoch = generation_id
        self._assigned = set(tps)
        await assigned(self, tps, generation_id)

    _replace(BatchConsumer, "on_partitions_revoked", on_partitions_revoked)
    _replace(BatchConsumer, "on_partitions_assigned", on_partitions_assigned)


def driver_hook(name: str) -> Callable[..., Any]:
    """Faust's own method that a hook overrides."""
    hook: Callable[..., Any] = getattr(driver.Consumer, name)
    return hook


def acknowledge_when_more_comes() -> None:
    """Acknowledges a batch only when the next one is done."""

    async def acknowledge(self: Processor, waiting: Any) -> None:
        before = None
        while True:
            ack, outputs = await waiting.get()
            for output in outputs:
                await output
            if before is not None:
                before()
            before = ack

    _replace(Processor, "_acknowledge", acknowledge)


def forget_at_a_failed_commit() -> None:
    """Forgets acknowledgements before their offset is committed."""
    commit = BatchConsumer._commit_offsets

    async def commit_offsets(self: BatchConsumer, offsets: Any, start_new_transaction: bool = True) -> bool:
        for tp in offsets:
            self._acked[tp][:] = []
        return await commit(self, offsets, start_new_transaction)

    _replace(BatchConsumer, "_commit_offsets", commit_offsets)


def read_the_start_last() -> None:
    """Reads the committed offset after the end of the log."""

    async def highwaters(self: BatchConsumer, *partitions: Any) -> Any:
        ends = await driver_hook("highwaters")(self, *partitions)
        await self._read_start()
        return dict(ends)

    _replace(BatchConsumer, "highwaters", highwaters)


def count_offsets_apart_from_the_state() -> None:
    """Keeps the offset at which a recovery resumes, even if its state is gone."""
    reached: dict[Any, int] = {}
    persisted_offset = FoldStore.persisted_offset

    def remembered(self: FoldStore, tp: Any) -> int:
        reached[tp] = max(reached.get(tp, -1), persisted_offset(self, tp))
        return reached[tp]

    _replace(FoldStore, "persisted_offset", remembered)


def wait_at_a_full_queue() -> None:
    """Lets a fetcher wait at a full queue through a rebalance."""

    async def wait_first(self: BatchConsumer, delivery: Any, suspended: Any) -> None:
        suspended.close()
        await delivery

    _replace(BatchConsumer, "wait_first", wait_first)


def hold_idle_fetches() -> None:
    """Lets the broker hold an idle fetch for Faust's 1.5 s, and the node's next fetch behind it."""
    _replace(consumer_thread, "FETCH_MAX_WAIT_MS", 1_500)


def take_the_name_back() -> None:
    """Lets a fenced process join as a new member, as aiokafka does."""
    _replace(consumer_thread, "exit_when_fenced", lambda coordinator: None)


class Switch(NamedTuple):
    """A fix, and the function that switches it off."""

    fix: str
    off: Callable[[], None]
    #: Whether decisions are split into records of one event; the comparison then expects that.
    splits: bool = False


def nothing() -> None:
    """Switches nothing off, for comparison."""


NOTHING = "nothing"
SWITCHES = {
    NOTHING: Switch("(all of them in place)", nothing),
    "split-decisions": Switch("one decision, one record", split_decisions, splits=True),
    "deliver-whatever-comes": Switch(
        "deliver only batches that continue the last one, armed last", deliver_whatever_comes
    ),
    "fold-past-the-end": Switch("fold an active partition to its end exactly", fold_past_the_end),
    "end-too-early": Switch("check that a partition was folded to its end", end_too_early),
    "generation-for-epoch": Switch("own epochs, carried with each batch", generation_for_epoch),
    "acknowledge-late": Switch("acknowledge a batch without waiting for later ones", acknowledge_when_more_comes),
    "forget-at-commit": Switch("a failed commit forgets nothing", forget_at_a_failed_commit),
    "start-last": Switch("read the committed offset before the log's end", read_the_start_last),
    "offsets-apart": Switch("recovery resumes at the offset of the state", count_offsets_apart_from_the_state),
    "full-queue": Switch("a delivery ends when the flow is suspended", wait_at_a_full_queue),
    "idle-fetch": Switch("idle fetches return soon", hold_idle_fetches),
    "take-name-back": Switch("a fenced process ends", take_the_name_back),
}


def selected() -> Switch | None:
    """The switch that the environment names, or None. Raises KeyError for an unknown name."""
    name = os.environ.get(VARIABLE)
    return SWITCHES[name] if name else None


def switch_off_selected() -> None:
    """Switches off the fix that the environment names."""
    switch = selected()
    if switch is not None:
        switch.off()


def pytest_configure() -> None:
    """Hook of pytest, for `-p tests.chaos.kernel.switches`."""
    switch_off_selected()
