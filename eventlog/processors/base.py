"""A processor: one Faust app, and so one consumer group, that handles batches of one partition in order.

All kinds of processors share these steps: take a batch, pass it to `handle`, and acknowledge it once the broker has
all output of `handle`. Each partition has a lane (lanes.py), so a partition with a stuck output or a quarantined record
(quarantine.py) does not delay the others. An unexpected error anywhere ends the process before Faust can swallow it
(supervision.py). Each processor has its own app, so a slow one does not delay the others, and a committed offset has
one meaning.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eventlog.broker.security import Kafka, credentials
from eventlog.consuming.start_policy import StartPolicy, at_committed
from eventlog.core.errors import Poisoned
from eventlog.faust.access import accumulator_of, producer_of
from eventlog.faust.app import App, NoWaitTableManager
from eventlog.faust.group.assignor import Assignor, url_of
from eventlog.faust.thread_checks import bind_to_this_thread
from eventlog.processors.guards import supervision
from eventlog.processors.guards.quarantine import Quarantine, Skips
from eventlog.processors.lanes import Handled, Lane
from eventlog.processors.meter import ProcessorMeter
from eventlog.runtime import failpoints, private_files
from eventlog.runtime.abort import abort
from eventlog.runtime.interpreter import tune

if TYPE_CHECKING:
    from eventlog.processors.standby.standby import Standby

log = logging.getLogger(__name__)

#: Batches in the queue between Faust's consumer and agent. They leave it at once; the consumer limits those in flight.
BUFFERED = 4
MAX_POLL_RECORDS = 20_000
#: Bytes of one partition in a fetch.
FETCH_BYTES = 1024 * 1024
#: Default of the session time-out.
SESSION_S = 10.0
#: Seconds that `stop` waits for an app that is still starting.
BEGIN_S = 5.0
#: Methods of a processor that touch its state, so they are called on the main thread.
ON_THE_MAIN_THREAD = ("handle", "quarantine", "skipped", "ownership_changed", "get", "_new_epoch", "_acknowledge")


@dataclass(frozen=True, slots=True)
class Connection:
    """The process that a processor runs in: its broker, its name, and its directory."""

    #: host:port, several separated by commas, with credentials if the brokers require them.
    kafka: Kafka
    #: Name of this process among its replicas, unique and the same after a restart: the static member id is made of it.
    instance: str
    state_dir: Path
    #: host:port at which the other members of its groups reach this process; empty: they don't.
    address: str = ""
    #: None: a quarantine ends only with a build that decodes the record.
    skips: Skips | None = None
    #: Standbys of each partition, as far as the group has members; and the longest time in seconds that a new process
    #: folds before it joins its groups (see eventlog/processors/standby/).
    standbys: int = 1
    warm_s: float = 900.0
    #: Session time-out of its consumer groups in seconds; at most the request time-out of 30 s.
    session_s: float = field(default_factory=lambda: SESSION_S)


class Batch(NamedTuple):
    """Consecutive records of one partition, and the epoch in which they were fetched."""

    topic: str
    partition: int
    records: list[Any]
    epoch: int


class Processor(ABC):
    """Base of all processors. Subclasses implement `handle` and `ready`."""

    start_policy: StartPolicy = staticmethod(at_committed)
    #: Partitions of every topic; 0 before the start.
    partitions = 0

    def __init__(self, group: str, inputs: Sequence[str], connection: Connection) -> None:
        self.group = group
        self.connection = connection
        self.inputs = tuple(inputs)
        self._quarantine = Quarantine(self)
        #: Quarantined partitions of this epoch, each with the record that stopped it.
        self.quarantined: dict[int, Poisoned] = self._quarantine.records
        self.meter = ProcessorMeter(self)
        #: Records dead-lettered by this process, by topic.
        self.dead_letters: dict[str, int] = {}
        #: Subclasses count recovery work here that the consumer does not see, so that it counts as progress.
        self.progress = 0
        #: Set by processors with state: follows partitions of other owners.
        self.standby: Standby | None = None
        #: Whether `stop` was called.
        self.stopping = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._starting: asyncio.Task[None] | None = None
        #: File descriptor of the locked state directory.
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
            # Faust's standbys lose queued batches at the second resume; eventlog/processors/standby/ replaces them.
            table_standby_replicas=0,
            stream_buffer_maxsize=BUFFERED,
            broker_session_timeout=self.connection.session_s,
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
            TableManager=NoWaitTableManager,
            PartitionAssignor=Assignor,
            **({"canonical_url": url_of(self.connection.address)} if self.connection.address else {}),
        )
        app.start_policy = self.start_policy
        app.standbys = self.connection.standbys
        return app

    @property
    def producer(self) -> Any:
        """The app's aiokafka producer."""
        return producer_of(self.app)

    # For subclasses ---------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether the state of all partitions owned here is recovered, so that reads can be answered."""

    @abstractmethod
    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Handles a batch. Returns the outputs to wait for before the batch is acknowledged, or None to drop it.

        A dropped batch is not acknowledged, so it is read again: return None only if the partition was lost. Batches of
        one partition, of whatever topic, come one after the other; those of different partitions may overlap if one
        takes long. Calls `quarantine` for a record that it can't process, and `report_missing_state` without a state.
        """

    def report_missing_state(self, batch: Batch) -> None:
        """For `handle`, if it has no state for a batch. Ends the process if the batch is of the current epoch: its
        input would be dropped until the next rebalance."""
        if batch.epoch == self.epoch:
            abort("input came for a partition that has no state", processor=self.group, partition=batch.partition)

    def ownership_changed(self) -> None:  # noqa: B027 - optional
        """Called first at every revocation and assignment."""

    def spawn(self, work: Any, name: str) -> None:
        """Runs a background task. If it ends before `stop`, with an error or without, the process ends."""
        name = f"{self.group}.{name}"
        task = asyncio.get_running_loop().create_task(supervision.supervise(self, work, name), name=name)
        self._tasks.append(task)

    # Ownership --------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Number of revocations and assignments so far."""
        return int(self.app.consumer.epoch)

    @property
    def read_epoch(self) -> int:
        """The epoch for reads: -1, which is no epoch, once another process may own the partitions.

        Reads of an outdated state would be wrong. Handling continues: it computes what the new owner computes.
        """
        consumer = self.app.consumer
        epoch: int = consumer.epoch
        return epoch if consumer.leased else -1

    @property
    def resumed(self) -> bool:
        """Whether input flows in this epoch: all assigned partitions are recovered, sought and resumed."""
        return bool(self.app.consumer.resumed)

    def owner(self, partition: int) -> str:
        """Address of the process to which a partition is assigned; empty if unknown."""
        return str(self.app.assignor.owner(self.inputs[0], partition, self.connection.address))

    @property
    def followed(self) -> set[int] | None:
        """Partitions that this process follows as a standby; None while there is no assignment."""
        if not self.app.consumer.assigned:
            return None
        return set(self.app.assignor.followed(self.inputs[0])) if self.connection.standbys else set()

    def owns(self, partition: int) -> bool:
        """Whether the partition is assigned to this process."""
        return any(tp.partition == partition for tp in self.app.consumer.assignment())

    def _new_epoch(self) -> None:
        self._quarantine.start_epoch()
        self.meter.begin_epoch()
        self.ownership_changed()

    # Quarantine -------------------------------------------------------------------------------------------------

    def quarantine(self, poisoned: Poisoned, epoch: int | None = None) -> None:
        """Stops the partition of a record that can't be processed, until a new epoch or a recorded skip.

        `epoch` is that in which the record was read; without it, that of the batch that the partition handles.

        `handle` sends the outputs of the records before it, calls this, and returns these outputs: they are awaited,
        but the batch is not acknowledged. `handle` may also raise Poisoned; then the whole batch is read again. Later
        batches of the partition are dropped without an acknowledgement.

        After a skip, `skipped` is called and the partition is read again without the record.
        """
        self._quarantine.stop(poisoned, epoch)

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        """Whether an operator has recorded a skip for a record that can't be processed."""
        skips = self.connection.skips
        return skips is not None and skips.is_skipped(topic, partition, record)

    def skipped(self, poisoned: Poisoned) -> None:  # noqa: B027 - optional
        """Called when a recorded skip ends a quarantine, before the partition is read again.

        A decider moves its `next_input` past the record here.
        """

    async def resume(self, poisoned: Poisoned) -> Poisoned | None:
        """Prepares a partition for the end of its quarantine. Returns another record that stops it, or None.

        May take long: the partition stays stopped meanwhile. After a new epoch the result is ignored.
        """
        return None

    def reread_from(self, partition: int, positions: Mapping[str, int]) -> None:
        """For `resume`: the topics of the partition are read from these offsets after the quarantine."""
        self._quarantine.reread_from(partition, positions)

    def handle_despite_skip(self, poisoned: Poisoned) -> None:
        """For `skipped`: `handle` gets the record all the same, because it calls `is_skipped` itself."""
        self._quarantine.handle_despite_skip(poisoned)

    # Start and stop ---------------------------------------------------------------------------------------------

    async def start(self, partitions: int) -> None:
        """Starts the app, for topics with so many partitions; returns when it is recovered.

        If the app crashes, now or later, the process ends. Raises CancelledError if `stop` is called meanwhile.
        """
        self.partitions = partitions
        tune()
        self._lock_state_dir(self.connection.state_dir / self.group)
        self.app.finalize()
        bind_to_this_thread(self, only=ON_THE_MAIN_THREAD)
        self.app.consumer.on_new_epoch = self._new_epoch
        self.meter.attach(self.app.consumer)
        self.spawn(supervision.watch_app(self), "watch")
        self.spawn(supervision.watch_recovery(self), "recovery")
        self.spawn(self._quarantine.watch(), "quarantine")
        self.spawn(supervision.watch_commits(self), "commits")
        self.spawn(self.meter.watch_recoveries(), "meter")
        if self.standby is not None:
            await self.standby.warm_up(partitions)
            if self.stopping:
                raise asyncio.CancelledError
            self.spawn(self.standby.run(), "standby")
        self._starting = asyncio.get_running_loop().create_task(self.app.start())
        # Shielded: an app that is cancelled halfway can't be stopped. `stop` waits until it can.
        await asyncio.shield(self._starting)
        if self.stopping:
            raise asyncio.CancelledError
        if self.app.crashed:
            abort("the stream processor did not start", self.app.crash_reason, processor=self.group)
        self.app.consumer.held_sends.attach(accumulator_of(self.producer))
        bind_to_this_thread(self.producer, accumulator_of(self.producer))
        log.info("%s started", self.group)

    async def stop(self) -> None:
        """Completes the batches in flight, commits, and leaves the group. May be called while `start` is running."""
        self.stopping = True
        if self.standby is not None:
            await self.standby.stop()
        tasks = list(self._tasks)
        if self._starting is not None:
            tasks.append(self._starting)
            begun = asyncio.get_running_loop().create_task(self.app.begun.wait())
            tasks.append(begun)
            # A stop before that would leave the consumer's thread running.
            await asyncio.wait([self._starting, begun], timeout=BEGIN_S, return_when=asyncio.FIRST_COMPLETED)
            # Otherwise Faust reports a fetcher that ends before a recovery as crashed.
            self.app.rebalancing = False
        await self.app.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.release_state_dir()

    def _lock_state_dir(self, path: Path) -> None:
        # Before joining the group; otherwise a second process would fence the running one and then fail at the lock.
        private_files.from_now_on()
        private_files.directory(path)
        directory = self._directory = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            abort("another process uses the state directory", path=path, processor=self.group)

    def release_state_dir(self) -> None:
        """Unlocks the state directory. Subclasses close their files in it first."""
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    # Batches ----------------------------------------------------------------------------------------------------

    async def _consume(self, stream: Any) -> None:
        lanes: dict[int, Lane] = {}
        try:
            with supervision.fatal(self, "the input was cancelled from inside", "the input ended"):
                async for event in stream.noack().events():
                    partition = event.message.partition
                    lane = lanes.get(partition)
                    if lane is None:
                        name = f"{self.group}.{partition}"
                        lane = lanes[partition] = Lane(name, self._handle_event, self._acknowledge)
                    await lane.add(event)
        finally:
            for lane in lanes.values():
                lane.close()

    async def _handle_event(self, event: Any) -> Handled | None:
        message = event.message
        batch = Batch(message.topic, message.partition, message.value, message.checksum)
        if failpoints.armed:
            failpoints.passed("batch delivered")
        with supervision.fatal(self, "a batch was cancelled from inside", "a batch could not be handled"):
            try:
                outputs = await self._handle_batch(batch)
            finally:
                self.app.consumer.held_sends.end()
        if outputs is None:
            # Not acknowledged: the partition's owner reads it again.
            self.app.consumer.drop_batch(message)
            return None
        if batch.partition in self.quarantined and batch.epoch == self.epoch:
            return Handled(partial(self.app.consumer.drop_batch, message), outputs)
        return Handled(event.ack, outputs)

    async def _handle_batch(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        admitted = self._quarantine.admit(batch) if batch.epoch == self.epoch else None
        if admitted is None:
            return None
        if not admitted.records:
            return ()
        outputs: Sequence[Awaitable[Any]] | None = None
        began = time.perf_counter()
        try:
            outputs = await self.handle(admitted)
        except Poisoned as poisoned:
            self.quarantine(poisoned)
        if outputs is not None:
            self.meter.count_batch(admitted, time.perf_counter() - began)
        self._quarantine.handled(batch, sent=outputs is not None)
        return outputs

    async def _acknowledge(self, handled: asyncio.Queue[Handled]) -> None:
        """Acknowledges batches in order, so that an offset is committed only when all batches before it are done."""
        with supervision.fatal(self, "output was cancelled from inside", "output was not acknowledged"):
            while True:
                ack, outputs = await handled.get()
                for output in outputs:
                    await output
                if failpoints.armed:
                    failpoints.passed("output acknowledged, input not")
                ack()
                if failpoints.armed:
                    failpoints.passed("input acknowledged, not committed")
