"""One regression test for each way in which stock faust-streaming 0.15.3 loses records.

Goal: each test shows the defect on Faust's own class first, then that ours does not have it. Method: the smallest piece
of Faust that decides the matter, with the rest faked; what needs a broker is in tests/integration.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from intervaltree import IntervalTree

from eventlog.processor import Connection, Processor
from eventlog.sequencer import Sequencer
from eventlog.topics import TopicSpec
from eventlog.transport.consumer import BatchConsumer, BatchConsumerThread
from eventlog.transport.producer import BatchProducer
from eventlog.transport.start import at_beginning, at_committed

TP0 = TP("inbox", 0)


def consumer(cls: Any, **attributes: Any) -> Any:
    """A consumer object without a broker: only what the method under test touches."""
    made = cls.__new__(cls)
    made._acked = defaultdict(list)
    made._acked_index = defaultdict(set)
    made._gap = defaultdict(IntervalTree)
    made._committed_offset = defaultdict(lambda: None)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code that is to end its process."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_an_unacknowledged_batch_is_never_committed_past() -> None:
    # Stock: with 4 committed and 5 not acknowledged yet, an acknowledgement of 6 alone... is taken for contiguous.
    stock = consumer(driver.Consumer)
    stock._committed_offset[TP0] = 5
    stock._acked[TP0] = [6]
    assert stock._new_offset(TP0) == 7, "the defect is gone: drop the work-around"
    # Ours: processors acknowledge in order, the last record of a batch stands for all of it, and nothing is guessed.
    ours = consumer(BatchConsumer)
    ours._acked[TP0] = [5, 9]
    assert ours._new_offset(TP0) == 10
    assert ours._acked[TP0] == [5, 9]
    ours._acked[TP0] = []
    assert ours._new_offset(TP0) is None


async def test_a_failed_commit_forgets_no_acknowledgement() -> None:
    stock = consumer(driver.Consumer)
    stock._acked[TP0] = [0, 1, 2]
    assert stock._new_offset(TP0) == 3
    assert stock._acked[TP0] == [], "the defect is gone: asked for an offset, stock Faust kept the acknowledgements"

    async def refuse(offsets: Any) -> bool:
        return False

    ours = consumer(BatchConsumer, epoch=1, assignment=lambda: {TP0}, _commit=refuse)
    ours._acked[TP0] = [2]
    assert not await ours._commit_offsets({TP0: 3})
    assert ours._new_offset(TP0) == 3


async def test_a_broker_that_is_away_at_a_commit_does_not_crash_the_consumer() -> None:
    crashed: list[BaseException] = []

    async def crash(error: BaseException) -> None:
        crashed.append(error)

    class Away:
        async def commit(self, offsets: Any) -> None:
            raise KafkaConnectionError("gone")

    fakes = {"_ensure_consumer": Away, "assignment": lambda: {TP0}, "crash": crash}
    stock = SimpleNamespace(**fakes, log=SimpleNamespace(exception=lambda *a: None), tp_last_committed_at={})
    assert await driver.AIOKafkaConsumerThread._commit(stock, {TP0: 3}) is False
    assert len(crashed) == 1, "the defect is gone"
    ours: Any = SimpleNamespace(**fakes)
    assert await BatchConsumerThread._commit(ours, {TP0: 3}) is False
    assert len(crashed) == 1


def test_an_error_that_no_retry_mends_at_a_commit_ends_the_process() -> None:
    assert not UnknownTopicOrPartitionError.retriable or KafkaConnectionError.retriable
    done = run_python("""
        import asyncio
        from types import SimpleNamespace
        from aiokafka.errors import GroupAuthorizationFailedError
        from eventlog.transport.consumer import BatchConsumerThread
        class Refusing:
            async def commit(self, offsets): raise GroupAuthorizationFailedError("no")
        fake = SimpleNamespace(_ensure_consumer=Refusing, assignment=set)
        asyncio.run(BatchConsumerThread._commit(fake, {}))
    """)
    assert done.returncode == 70
    assert "offsets can't be committed" in done.stderr


def test_the_producer_is_idempotent_and_waits_for_all_replicas() -> None:
    app = SimpleNamespace(in_transaction=False)
    assert driver.Producer._settings_extra(SimpleNamespace(app=app)) == {}, "the defect is gone"
    ours_app: Any = SimpleNamespace(app=app)
    ours = BatchProducer._settings_extra(ours_app)
    assert ours == {"acks": "all", "enable_idempotence": True}


STREAM = """
    import asyncio
    from types import SimpleNamespace
    from eventlog.processor import Batch, Processor
    class Failing(Processor):
        ready = True
        def __init__(self): self.group = "g"
        @property
        def epoch(self): return 1
        async def handle(self, batch):
            {body}
    class Stream:
        def noack(self): return self
        async def events(self):
            message = SimpleNamespace(topic="t", partition=0, value=[1], checksum=1, acked=False)
            yield SimpleNamespace(message=message, ack=lambda: print("ACKNOWLEDGED"))
            await asyncio.Event().wait()
    asyncio.run(asyncio.wait_for(Failing()._consume(Stream()), 20))
"""


def test_an_exception_in_a_processor_ends_the_process_before_faust_swallows_it() -> None:
    done = run_python(STREAM.format(body='raise ValueError("planted")'))
    assert done.returncode == 70
    assert "a batch could not be handled processor=g" in done.stderr
    assert "planted" in done.stderr
    assert "ACKNOWLEDGED" not in done.stdout


def test_an_output_that_was_not_written_ends_the_process_unacknowledged() -> None:
    body = "future = asyncio.get_running_loop().create_future(); future.set_exception(OSError('lost')); return [future]"
    done = run_python(STREAM.format(body=body))
    assert done.returncode == 70
    assert "output was not acknowledged" in done.stderr
    assert "ACKNOWLEDGED" not in done.stdout


def test_acknowledgements_keep_the_order_of_the_batches() -> None:
    done = run_python("""
        import asyncio
        from types import SimpleNamespace
        from eventlog.processor import Processor
        class Late(Processor):
            ready = True
            def __init__(self): self.group = "g"; self.futures = []
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
                    message = SimpleNamespace(topic="t", partition=0, value=[n], checksum=1, acked=False)
                    yield SimpleNamespace(message=message, ack=lambda n=n: print("ACK", n))
                late.futures[1].set_result(None)
                for _ in range(5): await asyncio.sleep(0)
                print("SECOND DONE")
                late.futures[0].set_result(None)
                for _ in range(5): await asyncio.sleep(0)
        asyncio.run(late._consume(Stream()))
    """)
    assert done.stdout.split("\n")[:3] == ["SECOND DONE", "ACK 0", "ACK 1"], done.stderr


def test_a_changelog_that_cannot_be_folded_ends_the_process() -> None:
    done = run_python("""
        from types import SimpleNamespace
        from faust.types import TP
        from eventlog.store import FoldStore
        from eventlog.partition import PartitionState
        from tests.unit.eventlog.counting import Counting, record
        recovery = SimpleNamespace(active_highwaters={}, active_tps=set())
        store = FoldStore.__new__(FoldStore)
        store.table = SimpleNamespace(app=SimpleNamespace(tables=SimpleNamespace(recovery=recovery)))
        store._states = {0: PartitionState(Counting(), 0)}
        message = SimpleNamespace(tp=TP("log", 0), value=[record(0, b"garbage")])
        store.apply_changelog_batch([SimpleNamespace(message=message)], None, None)
        print("WENT ON")
    """)
    assert done.returncode == 70
    assert "the event log can't be folded" in done.stderr
    assert "WENT ON" not in done.stdout


@pytest.mark.parametrize(
    ("committed", "begin", "end", "says"),
    [
        (None, 0, 10, "no committed offset"),
        (3, 5, 10, "trimmed before it was read"),
        (11, 0, 10, "ends before what was read"),
    ],
)
def test_an_offset_that_would_lose_records_ends_the_process(
    committed: int | None, begin: int, end: int, says: str
) -> None:
    done = run_python(f"""
        from faust.types import TP
        from eventlog.transport.start import at_committed
        at_committed(TP("inbox", 0), {committed}, {begin}, {end})
    """)
    assert done.returncode == 70
    assert says in done.stderr


def test_a_good_offset_is_where_reading_starts() -> None:
    assert at_committed(TP0, 7, 5, 10) == 7
    assert at_beginning(TP0, 7, 5, 10) == 5


class Copying:
    async def prepare(self, records: Any) -> None:
        """Nothing."""

    def wrap(self, record: Any) -> bytes:
        return bytes(record.value)

    def reject(self, record: Any, error: str) -> bytes | None:
        return None


async def test_settings_that_keep_records_safe_are_set(tmp_path: Path) -> None:
    topic = TopicSpec("t", None, "k", "w", ("a.w.r",), -1)
    processor: Processor = Sequencer("a.w.r", [topic], topic, Copying(), Connection("h:1", "w-0", tmp_path))
    conf = processor.app.conf
    assert conf.stream_wait_empty is True
    assert conf.topic_allow_declare is False
    assert conf.topic_disable_leader is True
    assert conf.web_enabled is False
    assert conf.consumer_group_instance_id == "w-0.a.w.r"
    assert str(conf.processing_guarantee).endswith("AT_LEAST_ONCE")
    # Raw bytes: a record that can't be decoded is ours to handle, Faust would acknowledge it first.
    assert processor._topic.value_serializer == "raw"
    assert processor._topic.key_serializer == "raw"
    assert processor.app.agents[f"{processor.group}.agent"].concurrency == 1


async def test_a_batch_is_delivered_only_in_its_epoch_and_only_if_it_continues_the_last_one() -> None:
    delivered: list[Any] = []

    async def take(message: Any) -> None:
        delivered.append(message)

    async def first(*waiting: Any) -> None:  # what Service.wait_first does, in sequence
        for one in waiting:
            if getattr(one, "cr_code", None) is not None and one.cr_code.co_name == "take":
                await one
            else:
                one.close()

    sought: list[tuple[TP, int]] = []
    ours = consumer(
        BatchConsumer,
        epoch=3,
        flow_active=True,
        callback=take,
        wait_first=first,
        suspend_flow=asyncio.Event(),
        _next={TP0: 5},
        _reseeks_in_row={},
        reseeks=0,
        stale_batches=0,
        _active_partitions={TP0},
        _buffered_partitions=set(),
        _paused_partitions=set(),
        _thread=SimpleNamespace(seek=lambda tp, offset: sought.append((tp, offset))),
        _to_message=lambda tp, record: SimpleNamespace(tp=tp, offset=record.offset),
    )

    def batch(*offsets: int) -> dict[TP, list[Any]]:
        return {TP0: [SimpleNamespace(offset=offset) for offset in offsets]}

    await ours._deliver(batch(5, 6), epoch=2)
    # Dropped, and asked for again.
    assert (delivered, sought) == ([], [(TP0, 5)])
    await ours._deliver(batch(8, 9), epoch=3)
    assert (delivered, sought) == ([], [(TP0, 5), (TP0, 5)])
    await ours._deliver(batch(4, 5, 6), epoch=3)
    assert [r.offset for r in delivered[0].value] == [5, 6]
    assert delivered[0].checksum == 3
    assert ours._next[TP0] == 7
