"""The consumer of a processor: one Faust message per fetched partition batch, for state that folds a log.

Four rules prevent lost records and state that is ahead of its log:

R1  A batch is delivered only in the epoch in which it was fetched, and only if it continues the previous batch. An
    epoch begins at each revocation and assignment. Generation ids are no substitute: a static member keeps its
    generation.
R2  The input starts where the group had committed *before* the changelog's end was read, or earlier (input_starts.py).
R3  Offsets are committed only from acknowledgements. Processors acknowledge in order, after the output is durable. A
    failed commit keeps the acknowledgements.
R4  Anything unexpected ends the process with code 70.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from eventlog.faust.consumer_thread import BatchConsumerThread, RebalanceListener
from eventlog.faust.held_sends import HeldSends
from eventlog.faust.input_starts import InputStarts
from eventlog.faust.progress import Deliveries
from eventlog.faust.thread_checks import bind_to_this_thread
from eventlog.runtime import failpoints
from eventlog.runtime.abort import abort
from eventlog.runtime.cancellation import cancel_requested
from eventlog.runtime.first_step import first_step

log = logging.getLogger(__name__)

POLL_S = 1.0
#: As above while some partitions are not fetched: a batch of one of them may complete at any time.
SHORT_POLL_S = 0.05
MAX_RESEEKS = 200
#: Batches of one input partition in flight: delivered, and neither acknowledged nor dropped.
MAX_BATCHES_IN_FLIGHT = 8
#: Records of all partitions in flight; above, each partition may have one batch. A record takes about 1.2 KB of memory.
MAX_RECORDS_IN_FLIGHT = 10_000
#: Methods of the consumer that the consumer's thread calls.
ON_ANY_THREAD = ("threadsafe_partitions_revoked", "threadsafe_partitions_assigned", "request_rejoin")


class BatchConsumer(InputStarts):
    """Delivers partition batches under the rules above. Message.value is a list of records, checksum the epoch."""

    # Faust logs every step here; under its own name the level can be set.
    logger = logging.getLogger("faust.eventlog")
    RebalanceListener = RebalanceListener

    #: Records of all batches in flight.
    _records_in_flight = 0
    #: Called at the beginning of each epoch.
    on_new_epoch: Callable[[], None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next: dict[TP, int] = {}
        #: Offsets that were sought, and apply once the flow resumes.
        self._armed: dict[TP, int] = {}
        #: Partitions with batches that were dropped before their start was known.
        self._missed: set[TP] = set()
        self.stale_batches = 0
        self.reseeks = 0
        self._reseeks_in_row: dict[TP, int] = {}
        #: Batches fetched, including those of changelogs.
        self.fetched = 0
        #: The group's last assignment, as the main thread knows it.
        self._assigned: set[TP] = set()
        self._assigned_epoch = self._sought_epoch = self._resumed_epoch = 0
        #: Batches in flight, of partitions that have some.
        self._in_flight: dict[TP, int] = {}
        #: The same batches, for measurements.
        self.deliveries = Deliveries()
        #: Told of each fetch and its batches; a processor ends the batches.
        self.held_sends = HeldSends()
        #: Partitions that are not fetched until they are released.
        self._held: set[TP] = set()
        self._room = asyncio.Event()
        bind_to_this_thread(self, but=ON_ANY_THREAD)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def crash(self, reason: BaseException) -> None:
        """Faust's hook for what it can't handle."""
        abort("the consumer failed", reason)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Faust's hook. From here on no batch of the old assignment is delivered."""
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
        # Delivered batches are cleared from the queues, or dropped by the processor.
        self._in_flight.clear()
        self.deliveries.clear()
        self._records_in_flight = 0
        self._held.clear()
        self._room.set()
        if self.on_new_epoch is not None:
            self.on_new_epoch()

    def assignment(self) -> set[TP]:
        """The group's last assignment to this process. Faust reads it from the client, which is not thread-safe."""
        return set(self._assigned)

    @property
    def assignment_now(self) -> set[TP]:
        """As `assignment`, on any thread."""
        return self._assigned

    @property
    def lease_remaining_s(self) -> float:
        """Seconds for which no other process can own our partitions."""
        remaining: float = self._thread.lease.remaining_s
        return remaining

    @property
    def assigned(self) -> bool:
        """Whether this epoch began with an assignment, even an empty one."""
        return self._assigned_epoch == self.epoch > 0

    @property
    def resumed(self) -> bool:
        """Whether the input flows in this epoch: recovered, sought and resumed."""
        return self._resumed_epoch == self.epoch > 0

    @property
    def leased(self) -> bool:
        """Whether no other process can own our partitions yet; see Lease."""
        holds: bool = self._thread.lease.holds
        return holds

    def request_rejoin(self) -> None:
        """Requests a rebalance. Call it on the consumer's thread."""
        self._thread.request_rejoin()

    def on_buffer_full(self, tp: TP) -> None:
        """Faust's hook, which would pause fetching for a second. Here delivery blocks at the full queue instead."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Faust's hook, see on_buffer_full."""

    async def check_commits(self) -> None:
        """Compares the committed offsets with the delivered ones, and commits ours again if they are beyond."""
        epoch = self.epoch
        tps = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        committed = await self._thread.committed(tps)
        for tp, found in committed.items():
            delivered, own = self._next.get(tp), self._committed_offset.get(tp)
            if epoch != self.epoch or delivered is None or own is None or found <= delivered:
                continue
            log.critical(
                "%s-%s: offset %s is committed, but this process, the owner, has read only to %s. Another client "
                "committed it. Committing %s again. See who may commit for the group: `acls check`",
                *tp,
                found,
                delivered,
                own,
            )
            await self._commit({tp: own})

    def acknowledge_start(self, tp: TP, committed: int) -> None:
        """Commits the start of this epoch if it is beyond the committed offset. Call it once the input flows.

        For state that stores its own positions: everything before its start is done, even if no record follows.
        """
        start = self.start_of(tp)
        if start is None or committed >= start or self._committed_offset[tp] != start:
            return
        self._committed_offset[tp] = committed
        if start - 1 not in self._acked_index[tp]:
            self._acked_index[tp].add(start - 1)
            self._acked[tp].append(start - 1)

    async def perform_seek(self) -> None:
        """Faust's hook: seeks the input to its starts in this epoch."""
        epoch = self.epoch
        await self._read_start()
        starts = {ensure_TP(tp): offset for tp, offset in self._start.items()}
        for tp in self.assignment():
            if tp in starts or self._is_changelog_tp(tp):
                continue
            claimed = self.committed_at_start(tp)
            if claimed is None:
                abort("an input partition has no start offset", topic=tp.topic, partition=tp.partition)
            # The state is not ready, since the assignment has changed and the next epoch is about to begin. Nothing
            # that is read from here on is handled in this epoch.
            starts[tp] = claimed
        await self._thread.seek_wait(starts)
        self._same_epoch(epoch)
        for tp, offset in starts.items():
            self._read_offset[tp] = None
            self._committed_offset[tp] = offset
        self._armed = starts
        self._sought_epoch = epoch

    def resume_flow(self) -> None:
        """Faust's hook: lets batches through. Recovery calls it last, after it clears the agents' queues."""
        # Recovery runs with the flow active and clears the queues after the seek, which would lose a batch delivered in
        # between. So the sought offsets apply only from here on.
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
        """Faust's hook: seeks partitions, and expects their next batches there."""
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
                if cancel_requested() or self.app.should_stop:
                    raise
                # Faust would end its fetcher silently.
                abort("a fetch was cancelled from inside")
            if self.should_stop:
                return
            if fetched:
                self.held_sends.begin_fetch()
                try:
                    await self._deliver(fetched, epoch)
                finally:
                    self.held_sends.end()
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
        batches = self._in_flight.get(tp)
        return not batches or (batches < MAX_BATCHES_IN_FLIGHT and self._records_in_flight < MAX_RECORDS_IN_FLIGHT)

    def ack(self, message: Any) -> bool:
        """Faust's hook: a batch is acknowledged."""
        acknowledged = bool(super().ack(message))
        self._done(message)
        return acknowledged

    def drop_batch(self, message: Any) -> None:
        """Drops a delivered batch without an acknowledgement: it is read again, here or by another owner."""
        message.acked = True
        self._unacked_messages.discard(message)
        if self._waiting_for_ack is not None and not self._waiting_for_ack.done():
            self._waiting_for_ack.set_result(None)
        self._done(message)

    def _done(self, message: Any) -> None:
        if message.checksum == self.epoch and (batches := self._in_flight.pop(message.tp, 0)):
            self._records_in_flight -= len(message.value)
            self.deliveries.end(message.tp, message.offset)
            if batches > 1:
                self._in_flight[message.tp] = batches - 1
        self._room.set()

    def hold(self, tps: Iterable[TP]) -> None:
        """Stops fetching these partitions until they are released, or until the next epoch."""
        self._held.update(tps)

    def release(self, tps: Mapping[TP, int | None]) -> None:
        """Fetches held partitions again, each from an offset; None: after the last delivered batch."""
        for tp, offset in tps.items():
            self._held.discard(tp)
            at = self._next.get(tp) if offset is None else offset
            if at is not None:
                self._next[tp] = at
                self._thread.seek(tp, at)
        self._room.set()

    async def verify_all_partitions_active(self) -> None:
        """Faust's hook, which reads the client on the wrong thread to log slow partitions. Supervision does that."""

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """See verify_all_partitions_active."""

    async def _deliver(self, fetched: Mapping[TP, list[Any]], epoch: int) -> None:
        for tp, records in fetched.items():
            if not records:
                continue
            if self.epoch != epoch or not self.flow_active:
                # The wait for records may have begun before a rebalance and ended with records from after it.
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
                self._in_flight[tp] = self._in_flight.get(tp, 0) + 1
                self._records_in_flight += len(batch)
                self.deliveries.add(tp, batch[-1].offset, batch[0].timestamp, len(batch))
                self.held_sends.begin_batch()
            if failpoints.armed:
                failpoints.passed("batch fetched, not delivered")
            waiting = first_step(self.callback(message))
            if waiting is not None:
                # The agent's queue is full.
                await self.wait_first(waiting, self.suspend_flow.wait())

    def _to_message(self, tp: TP, record: Any) -> driver.ConsumerMessage:
        """Faust's hook; our records do not name their partition (record_parser.py)."""
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
        """Returns the part of a batch that continues the previous batch; empty: none does."""
        want = self._next.get(tp)
        if want is None:
            self._drop(tp)
            return []
        if tp in self._held:
            # `release` seeks it.
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
        """Has a dropped batch fetched again. On a quiet partition, no later batch would reveal the gap."""
        self.stale_batches += 1
        want = self._next.get(tp) if self.flow_active else None
        if want is None:
            self._missed.add(tp)
        elif tp not in self._paused_partitions:
            self._reseek(tp, want)

    def _reseek(self, tp: TP, offset: int) -> None:
        """Fetches again from an offset. Faust may have dropped a batch; the log itself has no holes."""
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
            if cancel_requested():
                raise
            # Faust's committer would end silently. The acknowledgements are kept.
            log.warning("offsets not committed, retrying: cancelled from inside")
            committed = False
        if failpoints.armed:
            failpoints.passed("offsets committed")
        if committed and epoch == self.epoch:
            self._committed_offset.update(wanted)
            for tp, offset in wanted.items():
                self._acked[tp][:] = [one for one in self._acked[tp] if one >= offset]
                self._acked_index[tp] = set(self._acked[tp])
        return committed
