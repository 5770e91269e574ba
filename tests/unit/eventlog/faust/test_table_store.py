"""The store's rules S1 to S4: a state is folded to the end that was read, and used only in its epoch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from eventlog.core.errors import Poisoned
from eventlog.core.partition_state import PartitionState
from eventlog.faust.table_store import FoldStore
from tests.unit.eventlog.counting import Counter, Counting, add, record
from tests.unit.eventlog.support import run_python

LOG, INPUT = TP("log", 0), TP("inbox", 0)


def decided(count: int) -> list[Any]:
    """Records of a decision log."""
    live = PartitionState(Counting(), 0)
    return [record(n, live.decide(record(n, add(1, str(n))))) for n in range(count)]


async def empty(partitions: Any) -> AsyncIterator[tuple[int, PartitionState[Counter]]]:
    for partition in partitions:
        yield partition, PartitionState(Counting(), partition)


def store(
    *, end: int, active: bool = True, state: PartitionState[Counter] | None = None, begin: int = 0, **known: Any
) -> Any:
    """A store without a broker, whose partition's log ended at `end` when recovery began."""

    async def ends(tps: Any) -> dict[TP, int]:
        return {INPUT: 100}

    starts = {INPUT: 2}

    recovery = SimpleNamespace(active_highwaters={LOG: end}, active_tps={LOG} if active else set())
    consumer = SimpleNamespace(
        epoch=3,
        assignment=lambda: {LOG, INPUT},
        _is_changelog_tp=lambda tp: tp == LOG,
        starts_known=True,
        start_of=starts.get,
        set_start=starts.__setitem__,
        committed_and_begin=lambda tp: (None, begin),
        ends=ends,
    )
    vars(consumer).update(known)
    made: Any = FoldStore.__new__(FoldStore)
    app = SimpleNamespace(tables=SimpleNamespace(recovery=recovery), consumer=consumer)
    topic = SimpleNamespace(get_topic_name=lambda: "log")
    made.table = SimpleNamespace(app=app, changelog_topic=topic, on_ready=lambda: None, open_states=empty)
    made._states, made._epochs = {0: state or PartitionState(Counting(), 0)}, {}
    made.recovered_epoch, made._resets = -1, 0
    return made


def batch(records: list[Any]) -> Any:
    return SimpleNamespace(message=SimpleNamespace(tp=LOG, value=records))


def test_an_active_partition_is_folded_to_its_end_and_not_beyond() -> None:
    made = store(end=1)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    assert made._states[0].applied == 1


def test_a_standby_is_folded_to_the_end_of_the_log() -> None:
    made = store(end=1, active=False)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    assert made._states[0].applied == 3


async def test_the_persisted_offset_is_that_of_the_state() -> None:
    made = store(end=3)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    assert made.persisted_offset(LOG) == 3
    # An offset of Faust's would outlive the state.
    made.set_persisted_offset(LOG, 3)
    await made.on_rebalance(set(), {LOG}, set())
    assert made.persisted_offset(LOG) == -1
    await made.on_rebalance({LOG}, set(), {LOG})
    assert made.persisted_offset(LOG) == -1


async def test_a_partition_is_used_between_its_recovery_and_the_next_rebalance_in_that_epoch() -> None:
    made = store(end=3)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    assert made.ready(0, 3) is None
    await made.on_recovery_completed({LOG}, set())
    assert made.ready(0, 3).next_input == 2
    assert made.ready(0, 4) is None
    await made.on_rebalance({LOG}, set(), set())
    assert made.ready(0, 3) is None


async def test_a_start_that_the_policy_left_to_the_state_is_after_its_greatest_cause() -> None:
    starts: dict[TP, int] = {}
    made = store(end=3, start_of=starts.get, set_start=starts.__setitem__)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    await made.on_recovery_completed({LOG}, set())
    assert made.ready(0, 3).next_input == 4
    assert starts == {INPUT: 4}


async def test_a_committed_offset_ahead_of_the_decisions_skips_no_input() -> None:
    starts: dict[TP, int] = {}
    made = store(end=3, start_of=starts.get, set_start=starts.__setitem__, committed_and_begin=lambda tp: (90, 0))
    made.apply_changelog_batch([batch(decided(4))], None, None)
    await made.on_recovery_completed({LOG}, set())
    assert starts == {INPUT: 4}


async def test_no_partition_becomes_ready_before_the_start_policy_has_run() -> None:
    made = store(end=3, start_of=lambda tp: None, starts_known=False)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    await made.on_recovery_completed({LOG}, set())
    assert made.ready(0, 3) is None
    assert made.recovered_epoch == -1


async def test_queries_at_the_end_of_a_recovery_are_retried() -> None:
    answers: list[Any] = [KafkaConnectionError("away"), KafkaConnectionError("away"), {INPUT: 100}]

    async def ends(tps: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = store(end=3, ends=ends)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    await made.on_recovery_completed({LOG}, set())
    assert made.ready(0, 3) is not None
    assert made.recovered_epoch == 3


async def test_a_followed_state_is_adopted_and_a_fully_acknowledged_one_released() -> None:
    made = store(end=3)
    followed = PartitionState(Counting(), 0)
    released: list[Any] = []
    made.table.adopt = {0: followed}.pop
    made.table.release = lambda partition, state: released.append((partition, state))
    await made.on_rebalance(set(), {LOG}, set())
    assert [partition for partition, _ in released] == [0]
    await made.on_rebalance({LOG}, set(), {LOG})
    assert made._states[0] is followed
    # It holds a decision that the log may not have.
    followed.decide(record(0, add(1, "a")))
    await made.on_rebalance(set(), {LOG}, set())
    assert len(released) == 1


FAILS = """
    import asyncio
    from tests.unit.eventlog.faust.test_table_store import LOG, batch, decided, store
    async def ends(tps): raise ValueError("planted")
    made = store(end=3, ends=ends)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    asyncio.run(made.on_recovery_completed({LOG}, set()))
    print("WENT ON")
"""


def test_an_error_at_the_end_of_a_recovery_ends_the_process() -> None:
    done = run_python(FAILS)
    assert done.returncode == 70
    assert "the recovery could not be completed" in done.stderr
    assert "WENT ON" not in done.stdout


FORGOTTEN = """
    import asyncio
    from tests.unit.eventlog.faust.test_table_store import LOG, batch, decided, store
    made = store(end=3, start_of=lambda tp: None, begin=7)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    asyncio.run(made.on_recovery_completed({LOG}, set()))
    print("WENT ON")
"""


def test_an_expired_start_that_the_inbox_no_longer_has_ends_the_process_with_advice() -> None:
    done = run_python(FORGOTTEN)
    assert done.returncode == 70
    assert "the inbox begins after the last input that was decided" in done.stderr
    assert "offsets recover" in done.stderr
    assert "decided=3 committed=None begin=7" in done.stderr
    assert "WENT ON" not in done.stdout


ENDED_EARLY = """
    import asyncio
    from faust.types import TP
    from tests.unit.eventlog.faust.test_table_store import LOG, batch, decided, store
    made = store(end={end})
    made.apply_changelog_batch([batch(decided({folded}))], None, None)
    made._states[0].greatest_cause = {cause}
    asyncio.run(made.on_recovery_completed({{LOG}}, set()))
    print("WENT ON")
"""


def test_a_recovery_that_ends_before_the_log_does_ends_the_process() -> None:
    done = run_python(ENDED_EARLY.format(end=3, folded=2, cause=0))
    assert done.returncode == 70
    assert "recovery ended too early topic=log partition=0 at=1" in done.stderr
    assert "WENT ON" not in done.stdout


async def test_an_inbox_that_ends_before_the_greatest_cause_stops_the_partition() -> None:
    made = store(end=1)
    stopped: list[tuple[Poisoned, int]] = []
    made.table.on_poisoned = lambda poisoned, epoch: stopped.append((poisoned, epoch))
    made.apply_changelog_batch([batch(decided(2))], None, None)
    made._states[0].greatest_cause = 100
    await made.on_recovery_completed({LOG}, set())
    assert [(one.partition, epoch) for one, epoch in stopped] == [(0, made.table.app.consumer.epoch)]
    assert "the inbox ends at 100, before input 100" in stopped[0][0].reason
    assert made.owned(made.table.app.consumer.epoch) == []
    assert made.ready(0, made.table.app.consumer.epoch) is None


async def test_a_record_that_can_not_be_folded_stops_only_its_partition() -> None:
    made = store(end=1)
    stopped: list[Poisoned] = []
    made.table.on_poisoned = lambda poisoned, epoch: stopped.append(poisoned)
    records = decided(2)
    made.apply_changelog_batch([batch([records[0], record(1, b"garbage")])], None, None)
    made.apply_changelog_batch([batch([record(2, b"more")])], None, None)
    assert made._states[0].applied == 0
    await made.on_recovery_completed({LOG}, set())
    assert [(one.partition, one.offset) for one in stopped] == [(0, 1)]
    assert made.ready(0, made.table.app.consumer.epoch) is None
    assert made.recovered_epoch == made.table.app.consumer.epoch
