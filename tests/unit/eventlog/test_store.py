"""The store's rules S1 to S4: a state is what was folded, to the end that was read, and used only in its epoch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP

from eventlog.partition import PartitionState
from eventlog.store import FoldStore
from tests.unit.eventlog.counting import Counter, Counting, add, record
from tests.unit.eventlog.support import run_python

LOG, INPUT = TP("log", 0), TP("inbox", 0)


def decided(count: int) -> list[Any]:
    """Records of a decision log."""
    live = PartitionState(Counting(), 0)
    return [record(n, live.decide(record(n, add(1, str(n))))) for n in range(count)]


def store(*, end: int, active: bool = True, state: PartitionState[Counter] | None = None) -> Any:
    """A store without a broker, whose partition's log ended at `end` when recovery began."""

    async def ends(tps: Any) -> dict[TP, int]:
        return {INPUT: 100}

    recovery = SimpleNamespace(active_highwaters={LOG: end}, active_tps={LOG} if active else set())
    consumer = SimpleNamespace(
        epoch=3,
        assignment=lambda: {LOG, INPUT},
        _is_changelog_tp=lambda tp: tp == LOG,
        start_of=lambda tp: 2,
        ends=ends,
    )
    made: Any = FoldStore.__new__(FoldStore)
    app = SimpleNamespace(tables=SimpleNamespace(recovery=recovery), consumer=consumer)
    topic = SimpleNamespace(get_topic_name=lambda: "log")
    made.table = SimpleNamespace(
        app=app, changelog_topic=topic, on_ready=lambda: None, make_state=lambda p: PartitionState(Counting(), p)
    )
    made._states, made._epochs = {0: state or PartitionState(Counting(), 0)}, {}
    return made


def batch(records: list[Any]) -> Any:
    return SimpleNamespace(message=SimpleNamespace(tp=LOG, value=records))


def test_an_active_partition_is_folded_to_its_end_and_not_beyond() -> None:
    made = store(end=1)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    assert made._states[0].applied == 1


def test_a_standby_is_folded_as_far_as_the_log_goes() -> None:
    made = store(end=1, active=False)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    assert made._states[0].applied == 3


async def test_the_offset_it_answers_with_is_that_of_the_state_it_has() -> None:
    made = store(end=3)
    made.apply_changelog_batch([batch(decided(4))], None, None)
    assert made.persisted_offset(LOG) == 3
    # Faust's own count would outlive the state.
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


IMPOSSIBLE = """
    import asyncio
    from faust.types import TP
    from tests.unit.eventlog.test_store import LOG, batch, decided, store
    made = store(end={end})
    made.apply_changelog_batch([batch(decided({folded}))], None, None)
    made._states[0].greatest_cause = {cause}
    asyncio.run(made.on_recovery_completed({{LOG}}, set()))
    print("WENT ON")
"""


def test_a_recovery_that_ends_before_the_log_does_ends_the_process() -> None:
    done = run_python(IMPOSSIBLE.format(end=3, folded=2, cause=0))
    assert done.returncode == 70
    assert "recovery ended too early topic=log partition=0 at=1" in done.stderr
    assert "WENT ON" not in done.stdout


def test_an_inbox_that_ends_before_what_was_decided_from_it_ends_the_process() -> None:
    done = run_python(IMPOSSIBLE.format(end=1, folded=2, cause=100))
    assert done.returncode == 70
    assert "the inbox ends before what was decided from it topic=inbox partition=0 end=100 cause=100" in done.stderr
    assert "WENT ON" not in done.stdout
