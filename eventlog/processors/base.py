"""A processor: one Faust app, and so one consumer group, that handles partition batches in order.

The shell is the same for all: take a batch, hand it to `handle`, acknowledge it once everything that `handle` gave to
the broker is there. Partitions have lanes (lanes.py): one with a stuck output, or with a record that can't be decoded,
holds up no other. An exception anywhere ends the process before Faust can swallow it, and so does a background task
that ends, or a recovery that stands still. One app a processor: a slow one holds up no other, and offsets have one
meaning.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aiokafka.errors import KafkaError
from faust.types import TP

from eventlog.broker.security import Kafka, credentials
from eventlog.consuming.start_policy import StartPolicy, at_committed
from eventlog.core.errors import Poisoned
from eventlog.faust.app import App, PromptTableManager
from eventlog.faust.assignor import Assignor, url_of
from eventlog.faust.thread_checks import belongs_here
from eventlog.processors.lanes import Handled, Lane, cancelled_by_us
from eventlog.runtime import failpoints, private_files
from eventlog.runtime.abort import abort
from eventlog.runtime.interpreter import tune

if TYPE_CHECKING:
    from eventlog.processors.standby import Standby

log = logging.getLogger(__name__)

#: Batches in Faust's queue of one processor. They leave it at once: what is under way is bounded by the consumer.
BUFFERED = 4
MAX_POLL_RECORDS = 20_000
#: Methods of a processor that touch its state.
ON_THE_MAIN_THREAD = ("handle", "quarantine", "skipped", "ownership_changed", "get", "_new_epoch", "_acknowledge")
#: Bytes of one partition in a fetch.
FETCH_BYTES = 2 * 1024 * 1024
SESSION_S = 10.0
#: Longest wait of a stop for an app that is only being started.
BEGIN_S = 5.0
#: Seconds without any progress of a recovery after which the process ends; three of the broker's request time-outs.
STALLED_S = 90.0
#: Seconds between two looks at the progress of a recovery.
POLL_INTERVAL_S = 1.0
#: Seconds between two comparisons of the committed offsets with what was read.
COMMITS_S = 30.0
#: Seconds between two questions whether a record may be skipped, and between two lines about its quarantine.
ASK_S = 2.0
REMIND_S = 60.0


class Skips(Protocol):
    """Skips that operators have recorded: the way past a record that no build will ever decode."""

    async def recorded(self, topic: str, partition: int, offset: int, sha256: str) -> bool:
        """Whether the record at this place, with this digest of its value, is to be skipped."""
        ...

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        """The same at once, as far as is known here."""
        ...


@dataclass(frozen=True, slots=True)
class Connection:
    """What a processor needs to know of the process it runs in."""

    #: host:port, several separated by commas; with what it takes to be let in, where they ask for it
    kafka: Kafka
    #: Name of this process among its replicas; static membership hangs on it, so it must be unique and stay.
    instance: str
    state_dir: Path
    #: host:port at which the other processes of its groups reach it; empty: they don't.
    address: str = ""
    #: None: a quarantine ends only with a build that decodes the record.
    skips: Skips | None = None
    #: Processes that follow a partition beside its owner, where there are as many; and seconds that a new process folds
    #: ahead before it joins its groups (see standby.py).
    standbys: int = 1
    warm_s: float = 900.0


class Batch(NamedTuple):
    """Records of one partition in sequence, and the epoch they were fetched in."""

    topic: str
    partition: int
    records: list[Any]
    epoch: int


class Processor(ABC):
    """Base of all processors. Subclasses fill in `handle`; `ready` says whether state can be read."""

    start_policy: StartPolicy = staticmethod(at_committed)
    #: Partitions of every topic; 0 before the start.
    partitions = 0

    def __init__(self, group: str, inputs: Sequence[str], connection: Connection) -> None:
        self.group = group
        self.connection = connection
        self.inputs = tuple(inputs)
        #: Partitions that stand still in this epoch, each with the record that can't be decoded.
        self.quarantined: dict[int, Poisoned] = {}
        self._quarantine = _Quarantine()
        #: Subclasses count here what a recovery does that the consumer does not see, so that it is not taken for stuck.
        self.progress = 0
        #: Of processors with state, set by the subclass: follows partitions that are not ours.
        self.standby: Standby | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._stopping = False
        self._starting: asyncio.Task[None] | None = None
        #: Of the state directory, which is locked as long as it is open.
        self._directory: int | None = None
        self.app = self._make_app()
        self._topic = self.app.topic(*self.inputs, key_serializer="raw", value_serializer="raw")
        self.app.agent(self._topic, name=f"{group}.agent", concurrency=1)(self._consume)

    def _make_app(self) -> Any:
        broker = ";".join(f"eventlog://{one}" for one in str(self.connection.kafka).split(","))
        app = App(
            self.group,
            broker=broker,
            broker_credentials=credentials(self.connection.kafka),
            store="memory://",
            datadir=str(self.connection.state_dir / self.group),
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            consumer_group_instance_id=f"{self.connection.instance}.{self.group}",
            consumer_auto_offset_reset="earliest",
            stream_wait_empty=True,
            # Faust's standbys lose queued batches at its second resume; ours are eventlog/processors/standby.py.
            table_standby_replicas=0,
            stream_buffer_maxsize=BUFFERED,
            broker_session_timeout=SESSION_S,
            broker_heartbeat_interval=2.0,
            broker_request_timeout=30.0,
            broker_rebalance_timeout=20.0,
            broker_commit_interval=0.5,
            broker_commit_every=None,
            broker_max_poll_records=MAX_POLL_RECORDS,
            consumer_max_fetch_size=FETCH_BYTES,
            producer_request_timeout=30.0,
            producer_linger=0,
            producer_max_batch_size=512 * 1024,
            producer_max_request_size=1_000_000,
            TableManager=PromptTableManager,
            PartitionAssignor=Assignor,
            **({"canonical_url": url_of(self.connection.address)} if self.connection.address else {}),
        )
        app.start_policy = self.start_policy
        app.standbys = self.connection.standbys
        return app

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        """Whether a record that can't be taken is passed over, because an operator has recorded it. See passing.py."""
        skips = self.connection.skips
        return skips is not None and skips.is_skipped(topic, partition, record)

    @property
    def producer(self) -> Any:
        """The app's aiokafka producer."""
        return self.app.producer._ensure_producer()

    @property
    def epoch(self) -> int:
        """Our count of revocations and assignments."""
        return int(self.app.consumer.epoch)

    @property
    def read_epoch(self) -> int:
        """The same for reads, which must not be answered from a state that others may have gone on from: -1 then, which
        is no epoch. Handling needs no such care: it computes what another owner does."""
        consumer = self.app.consumer
        epoch: int = consumer.epoch
        return epoch if consumer.leased else -1

    @property
    def resumed(self) -> bool:
        """Whether input flows in this epoch: what is assigned here is recovered, sought and resumed."""
        return bool(self.app.consumer.resumed)

    def owner(self, partition: int) -> str:
        """Address of the process that was given a partition, as far as is known here; empty: not known."""
        return str(self.app.assignor.owner(self.inputs[0], partition, self.connection.address))

    @property
    def followed(self) -> set[int] | None:
        """Partitions that this process follows as a standby; None while no assignment is known."""
        if not self.app.consumer.assigned:
            return None
        return set(self.app.assignor.followed(self.inputs[0])) if self.connection.standbys else set()

    def owns(self, partition: int) -> bool:
        """Whether the partition is assigned to this process."""
        return any(tp.partition == partition for tp in self.app.consumer.assignment())

    def ownership_changed(self) -> None:  # noqa: B027 - not every processor has somebody to tell
        """Called at every revocation and assignment, before anything else."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether the state of all partitions owned here is up to date enough to be read."""

    @abstractmethod
    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Handles a batch; returns what must be done before it may be acknowledged, or None to let go of it.

        Let go of a batch only when its partition is not ours any more: it is then neither acknowledged nor lost.
        Batches of one partition, of whatever topic, come one after the other; those of different partitions may overlap
        where one takes long. Reports a record that can't be decoded by `quarantine`, a missing state by `report_missing_state`.
        """

    def report_missing_state(self, batch: Batch) -> None:
        """For `handle`, where it has no state for a batch. In the batch's own epoch that ends the process: input would
        be dropped unheard until the next rebalance."""
        if batch.epoch == self.epoch:
            abort("input came for a partition that has no state", processor=self.group, partition=batch.partition)

    def quarantine(self, poisoned: Poisoned, epoch: int | None = None) -> None:
        """Stops the partition of a record that can't be taken; the other partitions go on.

        `epoch` is that in which the record was met; without it, that of the batch that the partition handles.

        `handle` sends what the records before it gave, calls this, and returns what it has sent as for any batch: these
        outputs are waited for, but the batch is not acknowledged. `handle` may also raise Poisoned: then the batch is
        read again from its first record. All batches of the partition are dropped unacknowledged from here on.

        It ends with a new epoch, or with a recorded skip (`Connection.skips`). Then `skipped` is called, the partition
        is read again from the record, and `handle` never sees the record.
        """
        partition = poisoned.partition
        met = self._quarantine.epochs.get(partition, self.epoch) if epoch is None else epoch
        if partition in self.quarantined or met != self.epoch:
            return
        self.quarantined[partition] = poisoned
        self.app.consumer.hold(self._inputs_of(partition))
        self._quarantine.began.set()
        log.critical("%s: partition %s is quarantined: %s", self.group, partition, poisoned)

    def _inputs_of(self, partition: int) -> list[TP]:
        return [TP(topic, partition) for topic in self.inputs]

    def skipped(self, poisoned: Poisoned) -> None:  # noqa: B027 - not every processor counts its input
        """Called when a skip of the record is recorded, before its partition is read again.

        A decider moves its `next_input` past the record here.
        """

    async def _watch_quarantine(self) -> None:
        """Asks whether skips are recorded, and reminds of what stands still."""
        reminded = time.monotonic()
        while True:
            await self._quarantine.began.wait()
            for poisoned in list(self.quarantined.values()):
                if await self._may_skip(poisoned) and self.quarantined.get(poisoned.partition) is poisoned:
                    await self._skip(poisoned)
            if not self.quarantined:
                self._quarantine.began.clear()
                reminded = time.monotonic()
                continue
            if time.monotonic() - reminded >= REMIND_S:
                reminded = time.monotonic()
                for partition, poisoned in self.quarantined.items():
                    log.critical("%s: partition %s is still quarantined: %s", self.group, partition, poisoned)
            await asyncio.sleep(ASK_S)

    async def _may_skip(self, poisoned: Poisoned) -> bool:
        skips = self.connection.skips
        if skips is None:
            return False
        try:
            return await skips.recorded(poisoned.topic, poisoned.partition, poisoned.offset, poisoned.sha256)
        except Exception as error:  # noqa: BLE001 - the partition stands still all the same, and the answer may come yet
            log.warning("%s: not known whether a skip is recorded, asking again: %r", self.group, error)
            return False

    def reread_from(self, partition: int, positions: Mapping[str, int]) -> None:
        """For `resume`: has the topics of a partition read from these offsets on, once it goes on."""
        for tp in self._inputs_of(partition):
            self._quarantine.unread[tp] = positions.get(tp.topic, 0)

    def handle_despite_skip(self, poisoned: Poisoned) -> None:
        """For `skipped`: has `handle` see the record after all, because it asks `is_skipped` by itself."""
        self._quarantine.left_out.discard((poisoned.topic, poisoned.partition, poisoned.offset))

    async def resume(self, poisoned: Poisoned) -> Poisoned | None:
        """Makes a partition fit to go on, once the skip of its record is recorded.

        Returns another record that stops it, or None. May wait: the partition stands still meanwhile, and after a new
        epoch nothing comes of it.
        """
        return None

    async def _skip(self, poisoned: Poisoned) -> None:
        partition, epoch = poisoned.partition, self.epoch
        next_one = await self.resume(poisoned)
        if epoch != self.epoch or self.quarantined.get(partition) is not poisoned:
            return
        if next_one is not None:
            self.quarantined[partition] = next_one
            log.critical("%s: partition %s stays quarantined: %s", self.group, partition, next_one)
            return
        log.warning("%s: partition %s goes on, by a recorded skip of: %s", self.group, partition, poisoned)
        del self.quarantined[partition]
        self._quarantine.skip(poisoned)
        self.skipped(poisoned)
        again = {tp: self._quarantine.unread.pop(tp, None) for tp in self._inputs_of(partition)}
        self._quarantine.expected.update({tp: offset for tp, offset in again.items() if offset is not None})
        self.app.consumer.release({tp: offset for tp, offset in again.items() if tp in self.app.consumer.assignment()})

    async def start(self, partitions: int) -> None:
        """Starts the app; returns when recovered. A crash of the app, now or later, ends the process.

        Every topic has so many partitions. Raises CancelledError where `stop` came first.
        """
        self.partitions = partitions
        tune()
        self._take_directory(self.connection.state_dir / self.group)
        self.app.finalize()
        belongs_here(self, only=ON_THE_MAIN_THREAD)
        self.app.consumer.on_new_epoch = self._new_epoch
        self.spawn(self._watch_app(), "watch")
        self.spawn(self._watch_recovery(), "recovery")
        self.spawn(self._watch_quarantine(), "quarantine")
        self.spawn(self._watch_commits(), "commits")
        if self.standby is not None:
            await self.standby.warm(partitions)
            if self._stopping:
                raise asyncio.CancelledError
            self.spawn(self.standby.run(), "standby")
        self._starting = asyncio.get_running_loop().create_task(self.app.start())
        # Not cancelled in the middle: `stop` lets it come to where it can be stopped.
        await asyncio.shield(self._starting)
        if self._stopping:
            raise asyncio.CancelledError
        if self.app.crashed:
            abort("the stream processor did not start", self.app.crash_reason, processor=self.group)
        belongs_here(self.producer, self.producer._message_accumulator)
        log.info("%s started", self.group)

    async def stop(self) -> None:
        """Finishes what is under way, commits, and leaves. At any time, also while `start` has not returned."""
        self._stopping = True
        if self.standby is not None:
            await self.standby.stop()
        tasks = list(self._tasks)
        if self._starting is not None:
            tasks.append(self._starting)
            begun = asyncio.get_running_loop().create_task(self.app.begun.wait())
            tasks.append(begun)
            # Faust would leave a consumer's thread behind that has not quite got going.
            await asyncio.wait([self._starting, begun], timeout=BEGIN_S, return_when=asyncio.FIRST_COMPLETED)
            # Faust takes a fetcher that ends before a recovery does for crashed.
            self.app.rebalancing = False
        await self.app.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.release_state_dir()

    def release_state_dir(self) -> None:
        """Leaves the state directory to others, once drained; first what is kept there must be closed."""
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    def _take_directory(self, path: Path) -> None:
        """Before joining the group: whoever would fail at the directory's lock must not displace its owner first."""
        private_files.from_now_on()
        private_files.directory(path)
        directory = self._directory = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            abort("another process uses the state directory", path=path, processor=self.group)

    def spawn(self, work: Any, name: str) -> None:
        """Runs a task beside the app. Its end before the stop, by an error or not, ends the process."""
        name = f"{self.group}.{name}"
        self._tasks.append(asyncio.get_running_loop().create_task(self._supervise(work, name), name=name))

    async def _supervise(self, work: Any, name: str) -> None:
        error: BaseException | None = None
        try:
            await work
        except asyncio.CancelledError as cancelled:
            if cancelled_by_us():
                raise
            error = cancelled
        except BaseException as raised:  # noqa: BLE001 - the process ends here
            error = raised
        if not self._stopping:
            abort("a task ended", error, task=name)

    def _new_epoch(self) -> None:
        self.quarantined.clear()
        self._quarantine = _Quarantine(self._quarantine.began, self._quarantine.epochs)
        self.ownership_changed()

    async def _watch_recovery(self) -> None:
        """Ends the process where a recovery makes no progress: Faust's may have ended, and nobody would be told."""
        seen: object = None
        idle_s = 0.0
        while True:
            before = time.monotonic()
            await asyncio.sleep(POLL_INTERVAL_S)
            consumer = self.app.consumer
            progress = (consumer.epoch, consumer.fetched, self.progress)
            if consumer.resumed or not consumer.assigned or progress != seen:
                seen, idle_s = progress, 0.0
                continue
            # A process that was stopped meanwhile has had no chance.
            idle_s += min(time.monotonic() - before, 2 * POLL_INTERVAL_S)
            if idle_s >= STALLED_S:
                abort("assigned, but not recovered", processor=self.group, seconds=STALLED_S, epoch=consumer.epoch)

    async def _watch_commits(self) -> None:
        """Finds offsets that somebody else has committed for this group: the next start would begin there."""
        while True:
            await asyncio.sleep(COMMITS_S)
            if not self.resumed:
                continue
            try:
                await self.app.consumer.check_commits()
            except (KafkaError, OSError) as error:
                # TimeoutError is an OSError.
                log.warning("%s: the committed offsets are not known, asking again: %r", self.group, error)

    async def _watch_app(self) -> None:
        await self.app._crashed.wait()
        if not self._stopping:
            abort("the stream processor crashed", self.app.crash_reason, processor=self.group)

    async def _consume(self, stream: Any) -> None:
        lanes: dict[int, Lane] = {}
        try:
            async for event in stream.noack().events():
                partition = event.message.partition
                lane = lanes.get(partition)
                if lane is None:
                    lane = lanes[partition] = Lane(f"{self.group}.{partition}", self._handle_event, self._acknowledge)
                await lane.add(event)
        except GeneratorExit:
            raise
        except asyncio.CancelledError as error:
            if cancelled_by_us():
                raise
            abort("the input was cancelled from inside", error, processor=self.group)
        except BaseException as error:  # noqa: BLE001 - the process ends here
            abort("the input ended", error, processor=self.group)
        finally:
            for lane in lanes.values():
                lane.close()

    async def _handle_event(self, event: Any) -> Handled | None:
        message = event.message
        batch = Batch(message.topic, message.partition, message.value, message.checksum)
        if failpoints.armed:
            failpoints.passed("batch delivered")
        try:
            outputs = await self._handle_batch(batch)
        except asyncio.CancelledError as error:
            if cancelled_by_us():
                raise
            abort("a batch was cancelled from inside", error, processor=self.group)
        except BaseException as error:  # noqa: BLE001 - the process ends here
            abort("a batch could not be handled", error, processor=self.group)
        if outputs is None:
            # Neither acknowledged nor waited for: the partition's owner reads it again.
            self.app.consumer.drop_batch(message)
            return None
        if batch.partition in self.quarantined and batch.epoch == self.epoch:
            return Handled(partial(self.app.consumer.drop_batch, message), outputs)
        return Handled(event.ack, outputs)

    async def _handle_batch(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        if batch.epoch != self.epoch:
            return None
        partition, tp = batch.partition, TP(batch.topic, batch.partition)
        quarantine, first = self._quarantine, batch.records[0].offset
        if partition in self.quarantined:
            quarantine.unread.setdefault(tp, first)
            return None
        if quarantine.left_out:
            expected = quarantine.expected.get(tp, first)
            if first > expected:
                # From before the quarantine ended; it is read again behind what is expected.
                return None
            quarantine.expected.pop(tp, None)
            kept = [one for one in batch.records if (*tp, one.offset) not in quarantine.left_out]
            if not kept:
                return ()
            batch = batch._replace(records=kept)
        quarantine.epochs[partition] = batch.epoch
        outputs: Sequence[Awaitable[Any]] | None = None
        poisoned: Poisoned | None = None
        try:
            outputs = await self.handle(batch)
        except Poisoned as error:
            self.quarantine(error)
        if batch.epoch == self.epoch:
            poisoned = self.quarantined.get(partition)
        if poisoned is not None:
            # What was sent of the batch is not sent again; otherwise all of it is.
            reached = poisoned.offset if outputs is not None and poisoned.topic == batch.topic else first
            quarantine.unread.setdefault(tp, reached)
        return outputs

    async def _acknowledge(self, handled: asyncio.Queue[Handled]) -> None:
        """In the order of a partition's batches, so that an offset is committed only when all before it is done."""
        try:
            while True:
                ack, outputs = await handled.get()
                for output in outputs:
                    await output
                if failpoints.armed:
                    failpoints.passed("output acknowledged, input not")
                ack()
                if failpoints.armed:
                    failpoints.passed("input acknowledged, not committed")
        except asyncio.CancelledError as error:
            if cancelled_by_us():
                raise
            abort("output was cancelled from inside", error, processor=self.group)
        except BaseException as error:  # noqa: BLE001 - the process ends here
            abort("output was not acknowledged", error, processor=self.group)


class _Quarantine:
    """What a processor keeps of its quarantines in one epoch."""

    def __init__(self, began: asyncio.Event | None = None, epochs: dict[int, int] | None = None) -> None:
        #: Set while anything is quarantined.
        self.began = began or asyncio.Event()
        #: Epoch of the batch that each partition handles or handled last.
        self.epochs = epochs if epochs is not None else {}
        #: First offset of each quarantined input that was delivered and dropped.
        self.unread: dict[TP, int] = {}
        #: Offset that must come next after a quarantine.
        self.expected: dict[TP, int] = {}
        #: Topic, partition and offset of records that are skipped.
        self.left_out: set[tuple[str, int, int]] = set()

    def skip(self, poisoned: Poisoned) -> None:
        """Leaves a record out from now on."""
        self.left_out.add((poisoned.topic, poisoned.partition, poisoned.offset))


