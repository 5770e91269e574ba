"""Where a group goes on after the broker forgot its offsets. Pure: the partitions are lists."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from eventlog import reading, resume
from eventlog.resume import Resumed, Source, Unprovable, after_copied, before_unsettled, effects_start, sequencer_start
from eventlog.transport.start import at_committed

SOURCE = TP("facts", 0)
INBOX = "inbox"


class Died(Exception):
    """Stands for the end of the process."""


class Logs:
    """Values by topic, and where each topic begins."""

    def __init__(self) -> None:
        self.values: dict[str, list[bytes]] = {}
        self.begins: dict[str, int] = {}
        self.read: list[int] = []


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Logs:
    found = Logs()

    class Consumer:
        def __init__(self, **_: object) -> None:
            self._at = 0

        async def start(self) -> None:
            pass

        stop = start

        def assign(self, _tps: list[TopicPartition]) -> None:
            pass

        def pause(self, *_tps: TopicPartition) -> None:
            pass

        resume = pause

        async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
            return {tp: found.begins.get(tp.topic, 0) for tp in tps}

        async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
            return {tp: found.begins.get(tp.topic, 0) + len(found.values.get(tp.topic, ())) for tp in tps}

        def seek(self, _tp: TopicPartition, offset: int) -> None:
            self._at = offset

        async def position(self, _tp: TopicPartition) -> int:
            return self._at

        async def getmany(self, tp: TopicPartition, **_: object) -> dict[TopicPartition, list[Any]]:
            values = found.values[tp.topic][self._at - found.begins.get(tp.topic, 0) :][:2]
            records = [SimpleNamespace(offset=self._at + n, value=value) for n, value in enumerate(values)]
            found.read.append(self._at)
            self._at += len(records)
            return {tp: records}

    def die(what: str, **where: object) -> NoReturn:
        raise Died(what)

    monkeypatch.setattr(reading, "AIOKafkaConsumer", Consumer)
    monkeypatch.setattr(resume, "die", die)
    return found


class Copies:
    """Inbox values are `topic:offset`, or something else."""

    def source_of(self, value: bytes) -> Source | None:
        topic, _, offset = value.decode().partition(":")
        return Source(topic, 0, int(offset)) if offset else None


async def after(logs: Logs, begin: int, end: int) -> Resumed:
    return await after_copied("b:1", SOURCE, begin, end, INBOX, Copies(), portion=3)


async def test_a_sequencer_goes_on_after_the_newest_copy_and_reads_no_more_than_it_must(logs: Logs) -> None:
    logs.begins[INBOX] = 100
    logs.values[INBOX] = [b"facts:1", b"facts:2", b"facts:5", b"tick", b"other:9", b"tick", b"tick"]
    assert (await after(logs, 0, 9)).offset == 6
    assert min(logs.read) == 101


async def test_repeats_of_older_records_make_it_copy_some_again_and_skip_none(logs: Logs) -> None:
    logs.values[INBOX] = [b"facts:1", b"facts:7", b"facts:3"]
    assert (await after(logs, 0, 9)).offset == 4


async def test_without_a_copy_all_of_a_whole_source_is_copied(logs: Logs) -> None:
    logs.values[INBOX] = [b"tick", b"other:3"]
    assert (await after(logs, 0, 9)).offset == 0


async def test_what_was_trimmed_before_it_is_known_to_be_copied_is_not_passed_over(logs: Logs) -> None:
    with pytest.raises(Unprovable, match="holds no copy of it, and its records before 2 are gone"):
        await after(logs, 2, 9)
    logs.values[INBOX] = [b"facts:4"]
    assert (await after(logs, 5, 9)).offset == 5
    with pytest.raises(Unprovable, match="from there to 6 are gone"):
        await after(logs, 6, 9)
    with pytest.raises(Unprovable, match="another topic"):
        await after(logs, 0, 4)


class Calls:
    """A decision `ask:x` asks for a call, `answer:x` answers it."""

    def __init__(self) -> None:
        self._open: dict[bytes, int] = {}

    def unsettled(self) -> Calls:
        return Calls()

    def take(self, record: Any) -> None:
        what, _, name = record.value.partition(b":")
        if what == b"ask":
            self._open[name] = record.offset
        else:
            self._open.pop(name, None)

    def earliest(self) -> int | None:
        return min(self._open.values(), default=None)


async def test_effects_go_on_at_the_oldest_call_without_an_answer(logs: Logs) -> None:
    log = TP("log", 0)
    logs.values["log"] = [b"ask:a", b"ask:b", b"ask:c", b"answer:a", b"answer:c"]
    assert (await before_unsettled("b:1", log, 0, 5, Calls())).offset == 1
    assert (await before_unsettled("b:1", log, 0, 1, Calls())).offset == 0
    logs.values["log"].append(b"answer:b")
    assert (await before_unsettled("b:1", log, 0, 6, Calls())).offset == 6
    with pytest.raises(Unprovable):
        await before_unsettled("b:1", log, 1, 6, Calls())


async def test_a_policy_looks_only_where_nothing_is_committed_and_says_what_is_missing(logs: Logs) -> None:
    policy: Any = sequencer_start("b:1", INBOX, Copies())
    assert policy(SOURCE, 7, 0, 9) == 7
    assert policy(SOURCE, None, 0, 0) == 0
    logs.values[INBOX] = [b"facts:4"]
    assert await policy(SOURCE, None, 0, 9) == 5
    with pytest.raises(Died, match=r"from there to 6 are gone: see .*offsets recover"):
        await policy(SOURCE, None, 6, 9)


async def test_effects_that_can_not_tell_their_answers_need_a_person() -> None:
    policy = effects_start("b:1", object())
    assert policy is at_committed
