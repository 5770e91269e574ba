"""A violated invariant ends the process with code 70 and a message. Output is not dropped."""

from __future__ import annotations

import pytest

from tests.unit.eventlog.support import run_python

OUTPUT = """
    import asyncio
    from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
    from aiokafka.producer.message_accumulator import BatchBuilder
    from eventlog.producing.batch_output import Output, RECORD_BYTES
    class Producer:
        left = {refusals}
        def create_batch(self):
            return BatchBuilder(1 << 20, 0, is_transactional=False)
        async def send_batch(self, batch, topic, partition):
            self.left -= 1
            if self.left >= 0: raise KafkaTimeoutError()
            future = asyncio.get_running_loop().create_future()
            future.{ends}
            return future
    async def main():
        output = Output(Producer(), "log", 3)
        {appends}
        for sent in await output.send(): await sent
        await asyncio.sleep(0)
        print("WENT ON")
    asyncio.run(main())
"""


def output(
    *,
    appends: str = 'output.append(b"k", b"v", [])',
    ends: str = "set_result(None)",
    refusals: int = 0,
) -> tuple[int, str, str]:
    done = run_python(OUTPUT.format(appends=appends, ends=ends, refusals=refusals))
    return done.returncode, done.stdout, done.stderr


def test_a_record_that_is_too_large_ends_the_process() -> None:
    code, out, error = output(appends='output.append(b"k", bytes(RECORD_BYTES + 1), [])')
    assert (code, out) == (70, "")
    assert "a record is larger than the broker accepts topic=log key=b'k' bytes=921602" in error


def test_a_failed_batch_ends_the_process() -> None:
    code, out, error = output(ends='set_exception(MessageSizeTooLargeError("no"))')
    assert (code, out) == (70, "")
    assert "output was not written topic=log partition=3" in error
    assert "MessageSizeTooLargeError" in error


def test_a_cancelled_batch_ends_the_process() -> None:
    code, out, error = output(ends="cancel()")
    assert (code, out) == (70, "")
    assert "output was not written topic=log partition=3" in error


def test_an_unknown_offset_ends_the_process() -> None:
    code, out, error = output(ends="set_result(__import__('types').SimpleNamespace(offset=-1))")
    assert (code, out) == (70, "")
    assert "output was written at an unknown offset topic=log partition=3" in error


def test_an_acknowledgement_callback_that_raises_ends_the_process() -> None:
    code, out, error = output(
        appends='output._on_acknowledged = lambda *_: 1 / 0; output.append(b"k", b"v", [])',
        ends="set_result(__import__('types').SimpleNamespace(offset=7, timestamp=1))",
    )
    assert (code, out) == (70, "")
    assert "an acknowledgement callback failed topic=log partition=3" in error
    assert "ZeroDivisionError" in error


SENDER = """
    import asyncio
    from types import SimpleNamespace
    from faust.transport.drivers import aiokafka as driver
    from eventlog.faust.producer import BatchProducer
    async def main():
        async def ends(): pass
        async def cancelled_inside(): raise asyncio.CancelledError
        sender = asyncio.get_running_loop().create_task({sender}())
        async def started(self): self._producer = SimpleNamespace(_sender=SimpleNamespace(sender_task=sender))
        driver.Producer.on_start = started
        producer = BatchProducer.__new__(BatchProducer)
        await producer.on_start()
        {does}
        await asyncio.sleep(0.2)
        print("WENT ON")
    asyncio.run(main())
"""


@pytest.mark.parametrize("sender", ["ends", "cancelled_inside"])
def test_the_end_of_the_sender_task_ends_the_process(sender: str) -> None:
    done = run_python(SENDER.format(sender=sender, does="pass"))
    assert (done.returncode, done.stdout) == (70, "")
    assert "the producer's sender ended" in done.stderr


@pytest.mark.parametrize("does", ["producer._producer = None", "sender.cancel()"])
def test_a_requested_end_of_the_sender_task_does_not_end_the_process(does: str) -> None:
    done = run_python(SENDER.format(sender="ends", does=does))
    assert (done.returncode, done.stdout) == (0, "WENT ON\n")


def test_output_waits_for_an_unavailable_broker() -> None:
    code, out, error = output(refusals=3)
    assert (code, out) == (0, "WENT ON\n"), error


APP = """
    import asyncio
    from types import SimpleNamespace
    from eventlog.processors.guards import supervision
    from eventlog.processors.base import Processor
    class Bare(Processor):
        ready = True
        async def handle(self, batch): raise AssertionError
        def __init__(self):
            self.group, self._tasks, self.stopping = "g", [], False
            self.app = SimpleNamespace(_crashed=asyncio.Event(), crash_reason=ValueError("planted"))
    async def main():
        bare = Bare()
        {does}
        await asyncio.sleep(20)
    asyncio.run(main())
"""


def test_a_crashed_faust_app_ends_the_process() -> None:
    done = run_python(APP.format(does='bare.spawn(supervision.watch_app(bare), "watch"); bare.app._crashed.set()'))
    assert done.returncode == 70
    assert "the stream processor crashed processor=g" in done.stderr
    assert "planted" in done.stderr


def test_a_background_task_that_fails_ends_the_process() -> None:
    does = 'bare.spawn(asyncio.wait_for(asyncio.Event().wait(), 0.01), "timers")'
    done = run_python(APP.format(does=does))
    assert done.returncode == 70
    assert "a task ended task=g.timers" in done.stderr
    assert "TimeoutError" in done.stderr


def test_a_background_task_that_ends_ends_the_process() -> None:
    done = run_python(APP.format(does='bare.spawn(asyncio.sleep(0), "timers")'))
    assert done.returncode == 70
    assert "a task ended task=g.timers" in done.stderr


def test_a_state_directory_in_use_ends_the_process_before_it_joins_its_group() -> None:
    done = run_python("""
        import tempfile
        from pathlib import Path
        from eventlog.processors.base import Processor
        class Bare(Processor):
            ready = True
            async def handle(self, batch): raise AssertionError
            def __init__(self): self.group, self._directory = "g", None
        with tempfile.TemporaryDirectory() as directory:
            first, second, third = Bare(), Bare(), Bare()
            first._lock_state_dir(Path(directory))
            first.release_state_dir()
            second._lock_state_dir(Path(directory))
            print("FREE AGAIN", flush=True)
            third._lock_state_dir(Path(directory))
        print("WENT ON")
    """)
    assert (done.returncode, done.stdout) == (70, "FREE AGAIN\n")
    assert "another process uses the state directory" in done.stderr
