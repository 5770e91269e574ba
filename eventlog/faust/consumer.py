"""The consumer of a processor: one Faust message for each fetched partition batch, safe for state that folds a log.

It keeps these rules, without which records are lost or state runs ahead of its log:

R1  A batch is delivered only in the epoch (our own count of revocations and assignments) it was fetched in, and only if
    it continues the batch before it. Generation ids do not tell owners apart: a static member keeps its generation.
R2  Input starts where the group had committed *before* the changelog's end was read, never later.
R3  An offset is committed only from acknowledgements, which processors give in order and only for what is durable.
    A commit that failed forgets nothing.
R4  Whatever is unexpected ends the process with code 70.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from eventlog.consuming.start_policy import BulkStartPolicy, InputOffsets, StartPolicy, at_committed
from eventlog.faust.consumer_thread import BatchConsumerThread, RebalanceListener
from eventlog.faust.thread_checks import belongs_here
from eventlog.processors.lanes import cancelled_by_us
from eventlog.runtime import failpoints
from eventlog.runtime.abort import abort

log = logging.getLogger(__name__)

POLL_S = 1.0
#: The same where some partitions are left out: one of them may have room again at any time.
SHORT_POLL_S = 0.05
MAX_RESEEKS = 200
#: Batches of one partition of the input that are delivered and not done: handled, acknowledged or let go of.
AHEAD = 8
#: Records of all partitions that are; beyond, each partition may have one batch. A record takes about 1.2 KB in memory.
AHEAD_RECORDS = 20_000


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Delivers partition batches under the rules above. Message.value is a list of records, checksum the epoch."""

    # The library announces its every step here: its chatter, under its name.
    logger = logging.getLogger("faust.eventlog")
    RebalanceListener = RebalanceListener

    epoch = 0
    #: Records of all batches that are delivered and not done.
    _ahead_records = 0
    #: Called at the beginning of each epoch.
    on_new_epoch: Callable[[], None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next: dict[TP, int] = {}
        self._start: dict[TP, int] = {}
        #: What the broker said of the input when the epoch began.
        self._places: dict[TP, InputOffsets] = {}
        self._start_epoch = -1
        self._finding: tuple[int, asyncio.Task[None] | None] = (-1, None)
        self._armed: dict[TP, int] = {}
        #: Partitions of which something was fetched and dropped before it was known where they begin.
        self._missed: set[TP] = set()
        self.stale_batches = 0
        self.reseeks = 0
        self._reseeks_in_row: dict[TP, int] = {}
        #: Batches that came, those of changelogs included.
        self.fetched = 0
        #: The group's last assignment, as the main thread knows it.
        self._assigned: set[TP] = set()
        self._assigned_epoch = self._sought_epoch = self._resumed_epoch = 0
        #: Batches delivered and not done, of partitions that have some.
        self._ahead: dict[TP, int] = {}
        #: Partitions that are not fetched until they are released.
        self._held: set[TP] = set()
        self._room = asyncio.Event()
        belongs_here(self, but=("threadsafe_partitions_revoked", "threadsafe_partitions_assigned", "join_again"))

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def crash(self, reason: BaseException) -> None:
        """Faust's hook for what it can't handle."""
        abort("the consumer failed", reason)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Faust's hook. From here on nothing of the old assignment is delivered."""
        # Faust's listener calls this on the consumer's thread.
        self.app.on_rebalance_start()
        self._new_epoch()
        if failpoints.armed:
            failpoints.passed("partitions revoked")
        await super().on_partitions_revoked(revoked)
        if failpoints.armed:
            failpoints.passed("partitions drained")

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Faust's hook."""
        self.app.consumer_generation_id = generation_id
        self._new_epoch()
        self._assigned = set(assigned)
        self._assigned_epoch = self.epoch
        await super().on_partitions_assigned(assigned, generation_id)

    def _new_epoch(self) -> None:
        self.epoch += 1
        self._next.clear()
        self._armed = {}
        self._missed = set()
        # What was delivered is cleared from the queues, or dropped by who has it.
        self._ahead.clear()
        self._ahead_records = 0
        self._held.clear()
        self._room.set()
        if self.on_new_epoch is not None:
            self.on_new_epoch()

    def assignment(self) -> set[TP]:
        """The group's last assignment to us; Faust asks the client, which belongs to the consumer's thread."""
        return set(self._assigned)

    @property
    def assigned(self) -> bool:
        """Whether this epoch began with an assignment, though it may be empty."""
        return self._assigned_epoch == self.epoch > 0

    @property
    def resumed(self) -> bool:
        """Whether the input flows in this epoch: recovered, sought and resumed."""
        return self._resumed_epoch == self.epoch > 0

    @property
    def leased(self) -> bool:
        """Whether what was assigned to us can be nobody else's yet."""
        holds: bool = self._thread.lease.holds
        return holds

    def request_rejoin(self) -> None:
        """Makes the group assign once more; on the consumer's own thread."""
        self._thread.request_rejoin()

    def on_buffer_full(self, tp: TP) -> None:
        """Faust's hook; it would stop fetching and pause for a second. Ours blocks at the full queue instead."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Faust's hook, see on_buffer_full."""

    def start_of(self, tp: TP) -> int | None:
        """Offset from which the current epoch reads a partition of the input; None while it is not known."""
        return self._start.get(tp) if self._start_epoch == self.epoch else None

    @property
    def starts_known(self) -> bool:
        """Whether the start policy was asked in this epoch; then `start_of` is None where it left one to the state."""
        return self._start_epoch == self.epoch

    # R2: called by recovery before it reads the changelog, so the commit is read first.
    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Ends of partitions; the committed offsets of the input are read before them."""
        await self._read_start()
        if failpoints.armed:
            failpoints.passed("start read, log's end not")
        return dict(await super().highwaters(*partitions))

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Where logs begin, for recovery. One that begins after what its state is folded to ends the process."""
        begins = dict(await super().earliest_offsets(*partitions))
        for table in self.app.tables.values():
            changelog = table.changelog_topic.get_topic_name()
            for tp, begin in begins.items():
                folded = table.data.persisted_offset(tp)
                if tp.topic == changelog and begin > folded + 1:
                    abort("the log was trimmed", topic=tp.topic, partition=tp.partition, folded=folded, begin=begin)
        return begins

    async def ends(self, tps: list[TP]) -> dict[TP, int]:
        """Ends of partitions, nothing else."""
        return dict(await super().highwaters(*tps))

    async def _read_start(self) -> None:
        if self._start_epoch == self.epoch:
            return
        epoch, finding = self._finding
        if finding is None or epoch != self.epoch or finding.done():
            finding = asyncio.create_task(self._find_start(), name="start of the input")
            self._finding = self.epoch, finding
        # A policy may have to read for longer than a step of the recovery may take: the next try waits for the same.
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
                # Here, on the main loop: policies keep what they learn in their processor.
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
        """The committed offset and the first offset in the log when this epoch began."""
        place = self._places[tp]
        return place.committed, place.begin

    async def check_commits(self) -> None:
        """Compares the committed offsets with what was delivered, and commits ours again where they are beyond it."""
        epoch = self.epoch
        tps = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        committed = await self._thread.committed(tps)
        for tp, found in committed.items():
            delivered, own = self._next.get(tp), self._committed_offset.get(tp)
            if epoch != self.epoch or delivered is None or own is None or found <= delivered:
                continue
            log.critical(
                "%s-%s: offset %s is committed, and this process, the owner, has read to %s: it was not committed by "
                "this service. Committing %s again. Find out who may commit for the group: `groupbuy-ops acls check`",
                *tp,
                found,
                delivered,
                own,
            )
            await self._commit({tp: own})

    def set_start(self, tp: TP, offset: int) -> None:
        """Sets where the current epoch reads a partition whose policy left it to the state. Call before the seek."""
        self._start[tp] = offset

    def acknowledge_start(self, tp: TP, committed: int) -> None:
        """Has the start of this epoch committed where it lies beyond the committed offset. Call once input flows.

        For state that keeps its own positions: all before its start is done, also where nothing comes after it.
        """
        start = self.start_of(tp)
        if start is None or committed >= start or self._committed_offset[tp] != start:
            return
        self._committed_offset[tp] = committed
        if start - 1 not in self._acked_index[tp]:
            self._acked_index[tp].add(start - 1)
            self._acked[tp].append(start - 1)

    def _same_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            # Faust starts its recovery anew at this error.
            raise IllegalStateError("rebalanced meanwhile")

    async def perform_seek(self) -> None:
        """Seeks the input to where it starts in this epoch."""
        epoch = self.epoch
        await self._read_start()
        starts = {ensure_TP(tp): offset for tp, offset in self._start.items()}
        for tp in self.assignment():
            if tp in starts or self._is_changelog_tp(tp):
                continue
            claimed = self.committed_at_start(tp)
            if claimed is None:
                abort("nothing says where to read an input from", topic=tp.topic, partition=tp.partition)
            # Its state is not ready: the assignment has changed, and the next epoch is about to begin. Nothing that is
            # read from here on is handled in this one.
            starts[tp] = claimed
        await self._thread.seek_wait(starts)
        self._same_epoch(epoch)
        for tp, offset in starts.items():
            self._read_offset[tp] = None
            self._committed_offset[tp] = offset
        self._armed = starts
        self._sought_epoch = epoch

    def resume_flow(self) -> None:
        """Lets batches through. Recovery calls this last, after clearing the agents' queues."""
        # Recovery runs with the flow active and clears the queues after the seek: a batch delivered in between would be
        # lost. So the input is armed only here.
        super().resume_flow()
        if self._armed:
            self._next.update(self._armed)
            self._armed = {}
        if self.assigned and (self._sought_epoch == self.epoch or not self._assigned):
            self._resumed_epoch = self.epoch
        missed, self._missed = self._missed, set()
        for tp in missed:
            self._drop(tp)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seeks partitions, and expects their next batches there."""
        await super().seek_wait(partitions)
        for tp, offset in partitions.items():
            self._next[ensure_TP(tp)] = offset

    # R1
    async def _drain_messages(self, fetcher: Any) -> None:
        while not (self._stopped.is_set() or fetcher._stopped.is_set()):
            epoch = self.epoch
            try:
                fetched, _active = await self._wait_next_records(POLL_S)
            except self.consumer_stopped_errors:
                if self.app.should_stop:
                    return
                raise
            except asyncio.CancelledError:
                if cancelled_by_us() or self.app.should_stop:
                    raise
                # Faust would end its fetcher without a word.
                abort("a fetch was cancelled from inside")
            if self.should_stop:
                return
            if fetched:
                await self._deliver(fetched, epoch)
            await asyncio.sleep(0)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109
    ) -> Mapping[TP, list[Any]]:
        active = active_partitions or set()
        wanted = {tp for tp in active if tp not in self._held and self._has_room(tp)}
        if wanted:
            timeout = timeout if len(wanted) == len(active) else min(timeout, SHORT_POLL_S)
            found: Mapping[TP, list[Any]] = await super()._getmany(wanted, timeout)
            return found
        self._room.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._room.wait(), timeout)
        return {}

    def _has_room(self, tp: TP) -> bool:
        ahead = self._ahead.get(tp)
        return not ahead or (ahead < AHEAD and self._ahead_records < AHEAD_RECORDS)

    def ack(self, message: Any) -> bool:
        """Faust's hook: a batch is acknowledged."""
        acknowledged = bool(super().ack(message))
        self._done(message)
        return acknowledged

    def drop_batch(self, message: Any) -> None:
        """Forgets a delivered batch without an acknowledgement: it is read again, here or by another owner."""
        message.acked = True
        self._unacked_messages.discard(message)
        if self._waiting_for_ack is not None and not self._waiting_for_ack.done():
            self._waiting_for_ack.set_result(None)
        self._done(message)

    def _done(self, message: Any) -> None:
        if message.checksum == self.epoch and (left := self._ahead.pop(message.tp, 0)):
            self._ahead_records -= len(message.value)
            if left > 1:
                self._ahead[message.tp] = left - 1
        self._room.set()

    def hold(self, tps: Iterable[TP]) -> None:
        """Fetches nothing of these partitions until they are released, or until the next epoch."""
        self._held.update(tps)

    def release(self, tps: Mapping[TP, int | None]) -> None:
        """Fetches held partitions again, each from an offset; None: from what was delivered last."""
        for tp, offset in tps.items():
            self._held.discard(tp)
            at = self._next.get(tp) if offset is None else offset
            if at is not None:
                self._next[tp] = at
                self._thread.seek(tp, at)
        self._room.set()

    async def verify_all_partitions_active(self) -> None:
        """Faust looks into the client on the wrong thread here, to log what is slow. Processor watches instead."""

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """See verify_all_partitions_active."""

    async def _deliver(self, fetched: Mapping[TP, list[Any]], epoch: int) -> None:
        for tp, records in fetched.items():
            if not records:
                continue
            if self.epoch != epoch or not self.flow_active:
                # The wait for records may have begun before a rebalance and ended with the first records after it.
                for dropped in fetched:
                    self._drop(dropped)
                return
            self.fetched += 1
            batch = self._continuing(tp, records)
            if not batch:
                continue
            message = self._to_message(tp, batch[-1])
            message.value = batch
            message.checksum = epoch
            self._next[tp] = batch[-1].offset + 1
            if not self._is_changelog_tp(tp):
                self._ahead[tp] = self._ahead.get(tp, 0) + 1
                self._ahead_records += len(batch)
            if failpoints.armed:
                failpoints.passed("batch fetched, not delivered")
            await self.wait_first(self.callback(message), self.suspend_flow.wait())

    def _to_message(self, tp: TP, record: Any) -> driver.ConsumerMessage:
        """Faust's hook; a record does not say of which partition it is (parsed.py)."""
        return driver.ConsumerMessage(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp / 1000,
            record.timestamp_type,
            [],
            record.key,
            None,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _continuing(self, tp: TP, records: list[Any]) -> list[Any]:
        """The part of a batch that continues the one before; empty if it does not."""
        want = self._next.get(tp)
        if want is None:
            self._drop(tp)
            return []
        if tp in self._held:
            # Released, it is sought to where it goes on.
            return []
        readable = tp in self._active_partitions or tp in self._buffered_partitions
        if records[0].offset > want or not readable:
            if tp not in self._paused_partitions:
                self._reseek(tp, want)
            return []
        self._reseeks_in_row.pop(tp, None)
        if records[0].offset < want:
            return [record for record in records if record.offset >= want]
        return records

    def _drop(self, tp: TP) -> None:
        """What was fetched is not delivered, so it is fetched again: a quiet partition has no next batch to tell."""
        self.stale_batches += 1
        want = self._next.get(tp) if self.flow_active else None
        if want is None:
            self._missed.add(tp)
        elif tp not in self._paused_partitions:
            self._reseek(tp, want)

    def _reseek(self, tp: TP, offset: int) -> None:
        """Asks again for what is missing: a batch may have been dropped by Faust; the log itself has no holes."""
        self.reseeks += 1
        again = self._reseeks_in_row[tp] = self._reseeks_in_row.get(tp, 0) + 1
        if again > MAX_RESEEKS:
            abort("records are missing from the log", topic=tp.topic, partition=tp.partition, offset=offset)
        self._thread.seek(tp, offset)

    # R3
    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked[tp]
        return max(acked) + 1 if acked else None

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        epoch = self.epoch
        mine = self.assignment()
        wanted = {tp: offset for tp, offset in offsets.items() if tp in mine}
        if not wanted:
            return False
        if failpoints.armed:
            failpoints.passed("offsets due, not committed")
        try:
            committed = bool(await self._commit(wanted))
        except asyncio.CancelledError:
            if cancelled_by_us():
                raise
            # Faust's committer would end without a word. The acknowledgements are kept.
            log.warning("offsets not committed, trying again: cancelled from inside")
            committed = False
        if failpoints.armed:
            failpoints.passed("offsets committed")
        if committed and epoch == self.epoch:
            self._committed_offset.update(wanted)
            for tp, offset in wanted.items():
                self._acked[tp][:] = [one for one in self._acked[tp] if one >= offset]
                self._acked_index[tp] = set(self._acked[tp])
        return committed
