"""A processor: one Faust app, and so one consumer group, that handles partition batches in order.

The shell is the same for all: take a batch, hand it to `handle`, acknowledge it once everything that `handle` gave to
the broker is there. An exception anywhere ends the process before Faust can swallow it. One app a processor, so that a
slow one never holds up another, and offsets have one meaning.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from eventlog import crashpoints
from eventlog.app import App, PromptTableManager
from eventlog.crash import die
from eventlog.errors import Poisoned
from eventlog.interpreter import tune
from eventlog.ownership import Assignor, url_of
from eventlog.security import Kafka, credentials
from eventlog.transport.start import StartPolicy, at_committed

log = logging.getLogger(__name__)

#: Batches decided and sent, but not acknowledged yet, in one processor.
IN_FLIGHT = 16
#: Seconds of work between two chances for the event loop to do something else.
SLICE_S = 0.001
#: Seconds that the event loop gets for that, one turn begun in them included, as long as there is something to do.
OTHERS_S = 0.005
#: Seconds of a turn in which nothing was done.
IDLE_S = 0.000_05
MAX_POLL_RECORDS = 20_000
#: Bytes of one partition in a fetch.
FETCH_BYTES = 2 * 1024 * 1024
SESSION_S = 10.0
#: Longest wait of a stop for an app that is only being started.
BEGIN_S = 5.0


class Skips(Protocol):
    """Skips that operators have recorded: the way past a record that no build will ever decode."""

    async def recorded(self, topic: str, partition: int, offset: int, sha256: str) -> bool:
        """Whether the record at this place, with this digest of its value, is to be skipped."""
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


class Batch(NamedTuple):
    """Records of one partition in sequence, and the epoch they were fetched in."""

    topic: str
    partition: int
    records: list[Any]
    epoch: int


class Processor(ABC):
    """Base of all processors. Subclasses fill in `handle`; `ready` says whether state can be read."""

    start_policy: StartPolicy = staticmethod(at_committed)

    def __init__(self, group: str, inputs: Sequence[str], connection: Connection) -> None:
        self.group = group
        self.connection = connection
        self.inputs = tuple(inputs)
        #: Partitions of every topic; 0 before the start.
        self.partitions = 0
        #: Partitions that stand still in this epoch, each with the record that can't be decoded.
        self.quarantined: dict[int, Poisoned] = {}
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
            stream_buffer_maxsize=IN_FLIGHT,
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
        return app

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

    def owner(self, partition: int) -> str:
        """Address of the process that was given a partition, as far as is known here; empty: not known."""
        return str(self.app.assignor.owner(self.inputs[0], partition, self.connection.address))

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
        """

    def quarantine(self, poisoned: Poisoned) -> None:
        """Stops the partition of a record that can't be decoded; the other partitions go on.

        `handle` sends what the records before it gave, calls this, and returns what it has sent as for any batch: these
        outputs are waited for, but the batch is not acknowledged. `handle` may also raise Poisoned: then the batch is
        read again from its first record. All batches of the partition are dropped unacknowledged from here on.

        It ends with a new epoch, or with a recorded skip (`Connection.skips`). Then `skipped` is called, the partition
        is read again from the record, and `handle` never sees the record.
        """
        if poisoned.partition in self.quarantined:
            return
        self.quarantined[poisoned.partition] = poisoned
        log.critical("%s: partition %s is quarantined: %s", self.group, poisoned.partition, poisoned)

    def skipped(self, poisoned: Poisoned) -> None:  # noqa: B027 - not every processor counts its input
        """Called when a skip of the record is recorded, before its partition is read again.

        A decider moves its `next_input` past the record here.
        """

    async def start(self, partitions: int) -> None:
        """Starts the app; returns when recovered. A crash of the app, now or later, ends the process.

        Every topic has so many partitions. Raises CancelledError where `stop` came first.
        """
        self.partitions = partitions
        tune()
        self._take_directory(self.connection.state_dir / self.group)
        self.app.finalize()
        self.app.consumer.on_new_epoch = self.ownership_changed
        self.spawn(self._watch_app(), "watch")
        self._starting = asyncio.get_running_loop().create_task(self.app.start())
        # Not cancelled in the middle: `stop` lets it come to where it can be stopped.
        await asyncio.shield(self._starting)
        if self._stopping:
            raise asyncio.CancelledError
        if self.app.crashed:
            die("the stream processor did not start", self.app.crash_reason, processor=self.group)
        log.info("%s started", self.group)

    async def stop(self) -> None:
        """Finishes what is under way, commits, and leaves. At any time, also while `start` has not returned."""
        self._stopping = True
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
        self.let_go()

    def let_go(self) -> None:
        """Leaves the state directory to others, once drained; first what is kept there must be closed."""
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    def _take_directory(self, path: Path) -> None:
        """Before joining the group: whoever would fail at the directory's lock must not displace its owner first."""
        path.mkdir(parents=True, exist_ok=True)
        directory = self._directory = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            die("another process uses the state directory", path=path, processor=self.group)

    def spawn(self, work: Any, name: str) -> None:
        """Runs a task beside the app. Its end before the stop, by an error or not, ends the process."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self.group}.{name}")
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        if self._stopping or task.cancelled():
            return
        die("a task ended", task.exception(), task=task.get_name())

    async def _watch_app(self) -> None:
        await self.app._crashed.wait()
        if not self._stopping:
            die("the stream processor crashed", self.app.crash_reason, processor=self.group)

    async def _consume(self, stream: Any) -> None:
        waiting: asyncio.Queue[tuple[Any, Sequence[Awaitable[Any]]]] = asyncio.Queue(IN_FLIGHT)
        acknowledger = asyncio.get_running_loop().create_task(self._acknowledge(waiting))
        try:
            async for event in stream.noack().events():
                message = event.message
                batch = Batch(message.topic, message.partition, message.value, message.checksum)
                if crashpoints.armed:
                    crashpoints.passed("batch delivered")
                outputs = None
                if batch.epoch == self.epoch and batch.partition not in self.quarantined:
                    try:
                        outputs = await self.handle(batch)
                    except Poisoned as poisoned:
                        self.quarantine(poisoned)
                    if batch.partition in self.quarantined:
                        outputs = None
                if outputs is None:
                    # Neither acknowledged nor waited for: the partition's owner reads it again.
                    message.acked = True
                    continue
                await waiting.put((event, outputs))
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the process ends here
            die("a batch could not be handled", error, processor=self.group)
        finally:
            acknowledger.cancel()

    async def _acknowledge(self, waiting: asyncio.Queue[tuple[Any, Sequence[Awaitable[Any]]]]) -> None:
        """In the order of the batches, so that an offset is committed only when all before it is done."""
        try:
            while True:
                event, outputs = await waiting.get()
                for output in outputs:
                    await output
                if crashpoints.armed:
                    crashpoints.passed("output acknowledged, input not")
                event.ack()
                if crashpoints.armed:
                    crashpoints.passed("input acknowledged, not committed")
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the process ends here
            die("output was not acknowledged", error, processor=self.group)


class Slices:
    """Says when work on the event loop has lasted long enough.

    A call by gRPC takes a dozen turns of the loop, so one turn between long slices would make it wait a dozen slices.
    """

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE_S

    def over(self) -> bool:
        """Whether it is time to yield."""
        return time.perf_counter() >= self._until

    async def breathe(self) -> None:
        """Yields, again while others have something to do, and begins the next slice."""
        began = now = time.perf_counter()
        turn_s = OTHERS_S
        while turn_s > IDLE_S and now - began < OTHERS_S:
            await asyncio.sleep(0)
            turn_s, now = time.perf_counter() - now, time.perf_counter()
        self._until = now + SLICE_S
