"""One regression test for each way in which stock faust-streaming 0.15.3 loses records, in the order of the list.

Goal: each test fails on stock Faust and passes here. Method: where a piece of stock Faust shows the defect without a
broker, the test asserts the defect first. Elsewhere the docstring reports a run of stock Faust on a real broker, with
three records in one partition of which the second one was bad.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import RequestTimedOutError
from faust.agents.agent import Agent
from faust.stores import rocksdb
from faust.tables.recovery import Recovery
from faust.topics import Topic
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver
from faust.transport.producer import ProducerBuffer
from faust.types import TP
from mode.utils.queues import FlowControlEvent, ThrowableQueue

import eventlog
from eventlog.core.partition_state import PartitionState
from eventlog.faust.app import RetryingRecovery
from eventlog.faust.consumer import BatchConsumer
from eventlog.faust.consumer_thread import BatchConsumerThread
from eventlog.faust.producer import BatchProducer
from eventlog.processors import timer_loop
from eventlog.processors.base import Connection, Processor
from eventlog.processors.sequencer import Sequencer
from eventlog.records.codec import Codec
from eventlog.records.topic_spec import TopicSpec
from eventlog.state.rocksdb_store import RocksDBStore
from tests.unit.chassis.support import eventually
from tests.unit.eventlog.counting import Counting, add, record
from tests.unit.eventlog.support import bare_consumer as consumer
from tests.unit.eventlog.support import run_python

TP0 = TP("inbox", 0)
INBOX = TopicSpec("inbox", None, "k", "w", ("a.w.r",), -1)
GONE = "the defect is gone: drop the work-around"


@pytest.fixture
def stock() -> Any:
    """A Faust app with the defaults."""
    return faust.App("stock", broker="kafka://h:1", store="memory://")


@pytest.fixture
def ours(tmp_path: Path) -> Processor:
    """A processor that is not started."""
    return Sequencer("a.w.r", [INBOX], INBOX, SimpleNamespace(), Connection("h:1", "w-0", tmp_path))


STREAM = """
    import asyncio
    from types import SimpleNamespace
    from eventlog.faust.held_sends import HeldSends
    from eventlog.processors.base import Batch, Processor
    from eventlog.processors.meter import ProcessorMeter
    from eventlog.processors.guards.quarantine import Quarantine
    class Failing(Processor):
        ready = True
        def __init__(self):
            self.group, self._quarantine = "g", Quarantine(self)
            self.quarantined, self.meter = self._quarantine.records, ProcessorMeter(self)
            dropped = lambda message: print("DROPPED")
            self.app = SimpleNamespace(consumer=SimpleNamespace(drop_batch=dropped, held_sends=HeldSends()))
        @property
        def epoch(self): return 1
        async def handle(self, batch):
            {body}
    class Stream:
        def noack(self): return self
        async def events(self):
            value = [SimpleNamespace(offset=1)]
            message = SimpleNamespace(topic="t", partition=0, value=value, checksum=1, acked=False)
            yield SimpleNamespace(message=message, ack=lambda: print("ACKNOWLEDGED"))
            await asyncio.Event().wait()
    asyncio.run(asyncio.wait_for(Failing()._consume(Stream()), 20))
"""


def test_an_exception_in_a_processor_ends_the_process_before_faust_swallows_it() -> None:
    """Stock, on a real broker: an agent that raised at the second record continued with the third and committed all."""
    assert "aref.crash" in inspect.getsource(Agent._execute_actor), GONE
    done = run_python(STREAM.format(body='raise ValueError("planted")'))
    assert done.returncode == 70
    assert "a batch could not be handled processor=g" in done.stderr
    assert "planted" in done.stderr
    assert "ACKNOWLEDGED" not in done.stdout


def test_no_commit_passes_an_unacknowledged_batch() -> None:
    """Stock: with all before 5 committed, 5 not acknowledged and 6 acknowledged, it commits 7."""
    stock = consumer(driver.Consumer)
    stock._committed_offset[TP0] = 5
    stock._acked[TP0] = [6]
    assert stock._new_offset(TP0) == 7, GONE
    # Here processors acknowledge in order, and the last record of a batch acknowledges the batch.
    ours = consumer(BatchConsumer)
    ours._acked[TP0] = [5, 9]
    assert ours._new_offset(TP0) == 10
    assert ours._acked[TP0] == [5, 9]
    ours._acked[TP0] = []
    assert ours._new_offset(TP0) is None


async def test_an_offset_is_acknowledged_only_when_every_output_of_its_batch_is_written() -> None:
    """Stock: the flush before a commit ends after 0.1 s without a sent message, and the offsets are committed."""
    flush = ProducerBuffer.flush_atmost
    running = SimpleNamespace(state="running", size=1, message_sent=asyncio.Event())
    assert await flush(running, None) == 0, GONE

    processor: Any = Processor.__new__(Sequencer)
    processor.group = "g"
    acknowledged: list[int] = []
    waiting: asyncio.Queue[Any] = asyncio.Queue()
    written = [asyncio.get_running_loop().create_future() for _ in range(2)]
    waiting.put_nowait((lambda: acknowledged.append(0), written))
    acknowledger = asyncio.create_task(processor._acknowledge(waiting))
    written[0].set_result(None)
    for _ in range(20):
        await asyncio.sleep(0)
    assert acknowledged == []
    written[1].set_result(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert acknowledged == [0]
    acknowledger.cancel()


def test_an_output_that_was_not_written_ends_the_process_unacknowledged() -> None:
    """Stock: the callback of a failed publish only logs a warning."""
    warned: list[BaseException] = []
    message = SimpleNamespace(
        set_exception=warned.append, message=SimpleNamespace(channel=SimpleNamespace(get_topic_name=lambda: "t"))
    )
    sensors = SimpleNamespace(on_send_error=lambda *_: None)
    failed: Any = SimpleNamespace(result=lambda: (_ for _ in ()).throw(OSError("lost")))
    fake: Any = SimpleNamespace(app=SimpleNamespace(sensors=sensors))
    Topic._on_published(fake, failed, message, None, None)
    assert len(warned) == 1, GONE
    body = "future = asyncio.get_running_loop().create_future(); future.set_exception(OSError('lost')); return [future]"
    done = run_python(STREAM.format(body=body))
    assert done.returncode == 70
    assert "output was not acknowledged" in done.stderr
    assert "ACKNOWLEDGED" not in done.stdout


async def test_batches_in_flight_are_finished_before_a_processor_stops(ours: Processor) -> None:
    """Stock, with `stream_wait_empty` off: commits at SIGTERM without a wait. For more see test_standby.py."""
    did: list[str] = []

    async def wait_empty() -> None:
        did.append("waited")

    async def commit_and_end_transactions() -> None:
        did.append("committed")

    for wait in (False, ours.app.conf.stream_wait_empty):
        app = SimpleNamespace(conf=SimpleNamespace(stream_wait_empty=wait))
        fake: Any = SimpleNamespace(
            app=app, wait_empty=wait_empty, commit_and_end_transactions=commit_and_end_transactions
        )
        await Consumer.on_stop(fake)
    assert did == ["committed", "waited"]


def test_no_code_takes_several_events_from_a_stream_at_once() -> None:
    """Stock, on a real broker: with `take(2)` and a body that raised, 0 records were handled and 2 of 2 committed."""
    sources = [path.read_text() for path in Path(eventlog.__path__[0]).rglob("*.py")]
    (source,) = (one for one in sources if "stream.noack()" in one)
    assert not [way for way in (".take(", ".take_events(", ".take_with_timestamp(") if way in source]


async def test_faust_gets_raw_bytes_so_that_it_acknowledges_no_undecodable_record(stock: Any, ours: Processor) -> None:
    """Stock, on a real broker: with `value_type=bytes` and a second record that was not JSON, it committed all."""
    topic = stock.topic("t", value_type=bytes)
    with pytest.raises(faust.exceptions.ValueDecodeError):
        topic.schema.loads_value(stock, SimpleNamespace(value=b"\xff{", headers=[]), serializer=topic.value_serializer)
    assert ours._topic.value_serializer == "raw"
    assert ours._topic.key_serializer == "raw"


def test_the_producer_is_idempotent_and_waits_for_all_replicas() -> None:
    """Stock sets neither outside of transactions."""
    app = SimpleNamespace(in_transaction=False)
    assert driver.Producer._settings_extra(SimpleNamespace(app=app)) == {}, GONE
    fake: Any = SimpleNamespace(app=app)
    assert BatchProducer._settings_extra(fake) == {"acks": "all", "enable_idempotence": True}


def test_a_changelog_that_cannot_be_folded_ends_the_process() -> None:
    """Stock: any error while a batch of the changelog is applied is logged, and the next batch is read."""
    assert 'logger.warning(f"Error in recovery {ex}")' in inspect.getsource(Recovery), GONE
    done = run_python("""
        from types import SimpleNamespace
        from faust.types import TP
        from eventlog.faust.table_store import FoldStore
        from eventlog.core.partition_state import PartitionState
        from tests.unit.eventlog.faust.test_table_store import decided
        from tests.unit.eventlog.counting import Counting, record
        recovery = SimpleNamespace(active_highwaters={}, active_tps=set())
        store = FoldStore.__new__(FoldStore)
        store.table = SimpleNamespace(app=SimpleNamespace(tables=SimpleNamespace(recovery=recovery)))
        store._states = {0: PartitionState(Counting(), 0)}
        message = SimpleNamespace(tp=TP("log", 0), value=[decided(3)[n] for n in (0, 2)])
        store.apply_changelog_batch([SimpleNamespace(message=message)], None, None)
        print("WENT ON")
    """)
    assert done.returncode == 70
    assert "the event log can't be folded" in done.stderr
    assert "WENT ON" not in done.stdout


def test_a_start_that_ends_with_a_crashed_app_ends_the_process() -> None:
    """Stock: `app.start()` returns without an error when the recovery has crashed."""
    done = run_python("""
        import asyncio, tempfile
        from pathlib import Path
        from types import SimpleNamespace
        from mode import Service
        from eventlog.processors.base import Connection, Processor
        from eventlog.processors.meter import ProcessorMeter
        from eventlog.processors.guards.quarantine import Quarantine
        class Crashing(Service):
            async def on_started(self): await self.crash(ValueError("planted"))
        class Bare(Processor):
            ready = True
            async def handle(self, batch): raise AssertionError
            def __init__(self, app, directory):
                self.app, self.group, self._tasks, self.stopping, self.standby = app, "g", [], False, None
                self.connection, self._quarantine = Connection("h:1", "w-0", directory), Quarantine(self)
                self.meter = ProcessorMeter(self)
            def spawn(self, work, name): work.close()  # the watch would end the process too
        async def main():
            stock = Crashing()
            await stock.start()
            print("STOCK WENT ON", stock.crashed)
            app = Crashing()
            app.finalize, app.consumer = lambda: None, SimpleNamespace()
            await Bare(app, Path(tempfile.mkdtemp())).start(4)
            print("WENT ON")
        asyncio.run(main())
    """)
    assert done.stdout == "STOCK WENT ON True\n", done.stderr
    assert done.returncode == 70
    assert "the stream processor did not start processor=g" in done.stderr


async def test_faust_creates_no_topics(stock: Any, ours: Processor) -> None:
    """Stock creates topics with one replica and with partition counts that it then refuses."""
    assert (stock.conf.topic_allow_declare, stock.conf.topic_disable_leader) == (True, False), GONE
    assert stock.conf.topic_replication_factor == 1, GONE
    assert (ours.app.conf.topic_allow_declare, ours.app.conf.topic_disable_leader) == (False, True)


def test_acknowledgements_keep_the_order_of_the_batches() -> None:
    """Stock, on a real broker: one of two actors hung at the first record, the other went on: 3 of 3 committed."""
    done = run_python("""
        import asyncio
        from types import SimpleNamespace
        from eventlog.faust.held_sends import HeldSends
        from eventlog.processors.base import Processor
        from eventlog.processors.meter import ProcessorMeter
        from eventlog.processors.guards.quarantine import Quarantine
        class Late(Processor):
            ready = True
            def __init__(self):
                self.group, self._quarantine, self.futures = "g", Quarantine(self), []
                self.app = SimpleNamespace(consumer=SimpleNamespace(held_sends=HeldSends()))
                self.quarantined, self.meter = self._quarantine.records, ProcessorMeter(self)
            @property
            def epoch(self): return 1
            async def handle(self, batch):
                future = asyncio.get_running_loop().create_future()
                self.futures.append(future)
                return [future]
        late = Late()
        class Stream:
            def noack(self): return self
            async def events(self):
                for n in range(2):
                    value = [SimpleNamespace(offset=n)]
                    message = SimpleNamespace(topic="t", partition=0, value=value, checksum=1, acked=False)
                    yield SimpleNamespace(message=message, ack=lambda n=n: print("ACK", n))
                late.futures[1].set_result(None)
                for _ in range(5): await asyncio.sleep(0)
                print("SECOND DONE")
                late.futures[0].set_result(None)
                for _ in range(5): await asyncio.sleep(0)
        asyncio.run(late._consume(Stream()))
    """)
    assert done.stdout.split("\n")[:3] == ["SECOND DONE", "ACK 0", "ACK 1"], done.stderr


async def test_no_agent_has_a_sink(stock: Any, ours: Processor) -> None:
    """Stock sends a sink's value without a key and does not await its acknowledgement."""
    sent: list[dict[str, Any]] = []
    unacknowledged = asyncio.get_running_loop().create_future()

    async def send(**message: Any) -> Any:
        sent.append(message)
        return unacknowledged

    sink = stock.topic("t")
    sink.send = send
    await Agent._delegate_to_sinks(SimpleNamespace(_sinks=[sink]), "value")
    assert sent == [{"value": "value"}], GONE
    assert not unacknowledged.done()
    assert [agent._sinks for agent in ours.app.agents.values()] == [[]]


async def test_timers_only_append_ticks_and_only_for_owned_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock: a timer runs on every worker, for partitions of others too, and can't write a table."""
    appended: Counter[str] = Counter()

    class Output:
        def __init__(self, producer: Any, topic: str, partition: int, acknowledged: Any) -> None:
            self.to = f"{topic}-{partition}"

        def append(self, key: bytes, value: bytes, headers: Any) -> None:
            appended[self.to] += 1

        async def send(self) -> list[Any]:
            return []

    monkeypatch.setattr(timer_loop, "Output", Output)
    owned = PartitionState(Counting(), 3)
    owned.decide(record(0, add(1, "a")))
    before = owned.get("k")
    assert before is not None
    version = before.version
    inbox: Any = SimpleNamespace(name="inbox", type_name="")
    timers = timer_loop.TimerLoop(Counting(), inbox, "/w", lambda: [owned], lambda state: True, lambda: None)
    await timers.fire_timers(owned)
    assert appended == {"inbox-3": 1}
    assert before.version == version
    assert "self._owned()" in inspect.getsource(timer_loop.TimerLoop.run)


def test_all_partitions_share_one_small_block_cache(tmp_path: Path) -> None:
    """Stock: 2 GiB per partition."""
    assert rocksdb.DEFAULT_BLOCK_CACHE_SIZE == 2 << 30, GONE
    from eventlog.state.options import BLOCK_CACHE_BYTES, block_cache

    states = [RocksDBStore(tmp_path / str(n), Codec.of("1", int)) for n in range(2)]
    assert block_cache() is block_cache()
    assert BLOCK_CACHE_BYTES <= 64 << 20
    for one in states:
        one.close()


async def test_members_are_static_so_that_a_restart_moves_no_partition(stock: Any, ours: Processor) -> None:
    """Stock rebalances eagerly, and a process that restarts waits until its old membership has expired."""
    assert not stock.conf.consumer_group_instance_id, GONE
    assert ours.app.conf.consumer_group_instance_id == "w-0.a.w.r"


@pytest.mark.parametrize("kind", [Recovery, RetryingRecovery])
@pytest.mark.parametrize("failing", ["times out", "is refused", "is cancelled from inside"])
async def test_a_recovery_restarts_when_the_broker_does_not_answer(
    kind: type[Recovery], failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stock: the recovery task ends, at a time-out without an exception, since mode reports that as a stop.

    Later rebalances are ignored. A decider stays not ready; a sequencer reports that it is ready and copies nothing.
    """
    monkeypatch.setattr("eventlog.faust.app.RETRY_S", 0.01)
    sought: list[int] = []

    async def perform_seek() -> None:
        sought.append(len(sought))
        if len(sought) > 1:
            return
        if failing == "is refused":
            raise RequestTimedOutError
        if failing == "is cancelled from inside":
            raise asyncio.CancelledError
        await asyncio.sleep(60)

    class App(faust.App):  # type: ignore[misc]
        consumer = SimpleNamespace(
            assignment=lambda: {TP0}, resume_partitions=lambda tps: None, perform_seek=perform_seek
        )

    app = App("stock", broker="kafka://h:1", store="memory://", broker_request_timeout=0.2, broker_session_timeout=0.1)
    recovery = kind(app, app.tables)
    app.consumer_generation_id = recovery._generation_id = 1
    recovering = asyncio.create_task(recovery._restart_recovery(recovery))
    recovery.signal_recovery_start.set()
    try:
        if kind is Recovery:
            await asyncio.wait([recovering], timeout=5)
            assert recovering.done(), GONE
            assert not recovery.completed.is_set()
        else:
            await eventually(lambda: len(sought) == 2)
            await eventually(recovery.completed.is_set)
    finally:
        recovering.cancel()
        await asyncio.wait([recovering])


async def test_faust_has_no_standbys(stock: Any, ours: Processor) -> None:
    """Stock has one, and loses the queued batches when the flow resumes a second time in a recovery."""
    assert stock.conf.table_standby_replicas == 1, GONE
    flow = FlowControlEvent(initially_suspended=False)
    queue: Any = ThrowableQueue(16, flow_control=flow, clear_on_resume=True)
    queue.put_nowait("a batch of a standby")
    flow.resume()
    assert queue.empty(), GONE
    assert ours.app.conf.table_standby_replicas == 0


async def test_every_app_has_our_assignor(ours: Processor) -> None:
    """Stock: an app without tables and standbys assigns the partitions of each of its inputs separately."""
    thread: Any = BatchConsumerThread.__new__(BatchConsumerThread)
    thread.__dict__.update(app=ours.app, consumer=ours.app.consumer)
    stock = driver.AIOKafkaConsumerThread._create_worker_consumer(thread, ours.app.transport)
    assert stock._partition_assignment_strategy == [RoundRobinPartitionAssignor], GONE
    assert thread._create_worker_consumer(ours.app.transport)._partition_assignment_strategy == [ours.app.assignor]


async def test_the_settings_for_exactness_are_set(ours: Processor) -> None:
    """The remaining settings: each processor handles one batch after the other and opens no port."""
    conf = ours.app.conf
    assert str(conf.processing_guarantee).endswith("AT_LEAST_ONCE")
    assert conf.web_enabled is False
    assert [agent.concurrency for agent in ours.app.agents.values()] == [1]
    assert BatchConsumer.epoch == 0


@pytest.mark.parametrize("kind", [driver.Consumer, BatchConsumer])
async def test_an_idle_or_quarantined_partition_logs_no_error_of_fausts_stall_check(
    kind: type[Consumer], caplog: pytest.LogCaptureFixture
) -> None:
    """Stock: from the fifth minute on, each check logs an error for each partition that is idle or waits.

    The check runs after 2.5 commit intervals, here after 10 ms; its time-outs are over from the start.
    """
    log = logging.getLogger("stall-check")
    state = SimpleNamespace(timestamp=None, highwater=5, position=3)
    assignment = SimpleNamespace(active=True, state_value=lambda tp: state)
    subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    client = SimpleNamespace(_fetcher=SimpleNamespace(_subscriptions=subscription))
    checks: list[float] = []

    class Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
        def __init__(self) -> None:
            self.log, self.time_started = log, 0.0
            self.tp_fetch_request_timeout_secs = self.tp_stream_timeout_secs = self.tp_commit_timeout_secs = 0.0

        def _ensure_consumer(self) -> Any:
            return client

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def every(interval: float, name: str) -> Any:
        for _ in range(3):
            await asyncio.sleep(interval)
            checks.append(interval)
            yield interval

    checked = consumer(
        kind,
        app=SimpleNamespace(rebalancing=False),
        commit_interval=0.004,
        assignment=lambda: {TP0},
        sleep=sleep,
        itertimer=every,
        _thread=Thread(),
        _stopped=asyncio.Event(),
        _crashed=asyncio.Event(),
    )
    with caplog.at_level(logging.DEBUG):
        await kind._commit_livelock_detector.fun(checked)
        checked.verify_recovery_event_path(1e9, TP0)
    assert len(checks) == 3
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    if kind is BatchConsumer:
        assert errors == []
    else:
        assert len(errors) == 4, GONE
