"""The starts of sequencers and effects, derived from their output. The partitions are lists in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from eventlog.broker import partition_reader
from eventlog.consuming import resume
from eventlog.consuming.resume import (
    ProvenStart,
    RequestedCall,
    Source,
    StartNotProven,
    after_newest_copy,
    before_oldest_pending_call,
    effects_start,
    sequencer_start,
)
from eventlog.consuming.start_policy import InputOffsets, at_committed

SOURCE = TP("facts", 0)
INBOX = "inbox"


class Died(Exception):
    """Replaces the end of the process."""


class Logs:
    """The values of each topic, and its first offset."""

    def __init__(self) -> None:
        self.values: dict[str, list[bytes]] = {}
        self.begins: dict[str, int] = {}
        self.read: list[int] = []


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Logs:
    found = Logs()

    class Consumer:
        def __init__(self, **_: object) -> None:
            self._places: dict[TopicPartition, int] = {}

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

        def seek(self, tp: TopicPartition, offset: int) -> None:
            self._places[tp] = offset

        async def position(self, tp: TopicPartition) -> int:
            return self._places[tp]

        async def getmany(self, *tps: TopicPartition, **_: object) -> dict[TopicPartition, list[Any]]:
            batches = {}
            for tp in tps:
                at = self._places[tp]
                values = found.values.get(tp.topic, [])[at - found.begins.get(tp.topic, 0) :][:2]
                records = [SimpleNamespace(offset=at + n, value=value) for n, value in enumerate(values)]
                found.read.append(at)
                self._places[tp] += len(records)
                batches[tp] = records
            return batches

    def die(what: str, **where: object) -> NoReturn:
        raise Died(what)

    monkeypatch.setattr(partition_reader, "AIOKafkaConsumer", Consumer)
    monkeypatch.setattr(resume, "abort", die)
    return found


class Mapper:
    """Inbox values are `topic:offset`, or no copy."""

    def source_of(self, value: bytes) -> Source | None:
        topic, _, offset = value.decode().partition(":")
        return Source(topic, 0, int(offset)) if offset else None


async def after(logs: Logs, begin: int, end: int) -> ProvenStart:
    return await after_newest_copy("b:1", SOURCE, begin, end, INBOX, Mapper(), block=3)


async def test_a_sequencer_resumes_after_the_newest_copy_and_reads_only_as_far_back_as_needed(logs: Logs) -> None:
    logs.begins[INBOX] = 100
    logs.values[INBOX] = [b"facts:1", b"facts:2", b"facts:5", b"tick", b"other:9", b"tick", b"tick"]
    assert (await after(logs, 0, 9)).offset == 6
    assert min(logs.read) == 101


async def test_duplicates_of_older_records_cause_copies_again_but_skip_none(logs: Logs) -> None:
    logs.values[INBOX] = [b"facts:1", b"facts:7", b"facts:3"]
    assert (await after(logs, 0, 9)).offset == 4


async def test_a_source_without_a_copy_is_read_from_its_beginning(logs: Logs) -> None:
    logs.values[INBOX] = [b"tick", b"other:3"]
    assert (await after(logs, 0, 9)).offset == 0


async def test_records_that_were_trimmed_before_a_copy_make_the_start_unproven(logs: Logs) -> None:
    with pytest.raises(StartNotProven, match="holds no copy of it, and its records before 2 are gone"):
        await after(logs, 2, 9)
    logs.values[INBOX] = [b"facts:4"]
    assert (await after(logs, 5, 9)).offset == 5
    with pytest.raises(StartNotProven, match="from there to 6 are gone"):
        await after(logs, 6, 9)
    with pytest.raises(StartNotProven, match="another topic"):
        await after(logs, 0, 4)


class Calls:
    """A decision `ask:x` requests a call, and `answer:x` has its result."""

    def __init__(self) -> None:
        self._open: dict[bytes, int] = {}

    def pending_calls(self) -> Calls:
        return Calls()

    def take(self, record: Any) -> None:
        what, _, name = record.value.partition(b":")
        if what == b"ask":
            self._open[name] = record.offset
        else:
            self._open.pop(name, None)

    def earliest(self) -> int | None:
        return min(self._open.values(), default=None)


async def test_effects_resume_at_the_oldest_call_without_a_result(logs: Logs) -> None:
    log = TP("log", 0)
    logs.values["log"] = [b"ask:a", b"ask:b", b"ask:c", b"answer:a", b"answer:c"]
    assert (await before_oldest_pending_call("b:1", log, 0, 5, Calls())).offset == 1
    assert (await before_oldest_pending_call("b:1", log, 0, 1, Calls())).offset == 0
    logs.values["log"].append(b"answer:b")
    assert (await before_oldest_pending_call("b:1", log, 0, 6, Calls())).offset == 6
    with pytest.raises(StartNotProven):
        await before_oldest_pending_call("b:1", log, 1, 6, Calls())


async def test_a_start_without_a_commit_is_derived_from_the_inbox_or_names_the_missing_records(logs: Logs) -> None:
    policy: Any = sequencer_start("b:1", INBOX, Mapper())
    assert await policy(SOURCE, None, 0, 0) == 0
    logs.values[INBOX] = [b"facts:4"]
    assert await policy(SOURCE, None, 0, 9) == 5
    with pytest.raises(Died, match=r"from there to 6 are gone: see .*offsets recover"):
        await policy(SOURCE, None, 6, 9)


class CopiesEach(Mapper):
    """Copies every record of `facts`."""

    def copies_all(self, topic: str) -> bool:
        return topic == "facts"


async def test_a_commit_beyond_the_newest_copy_skips_no_record(logs: Logs, caplog: pytest.LogCaptureFixture) -> None:
    policy: Any = sequencer_start("b:1", INBOX, CopiesEach())
    assert await policy(SOURCE, 7, 0, 9) == 0
    logs.values[INBOX] = [b"facts:4", b"tick", b"facts:5"]
    assert await policy(SOURCE, 6, 0, 9) == 6
    assert await policy(SOURCE, 5, 0, 9) == 5
    assert await policy(SOURCE, 8, 0, 9) == 6
    assert not caplog.records
    # Commits beyond the end of the log, and before its beginning: the start is proven by the inbox.
    assert await policy(SOURCE, 99, 0, 9) == 6
    assert await policy(SOURCE, 1, 3, 9) == 6
    assert [one.levelname for one in caplog.records] == ["CRITICAL"] * 2
    with pytest.raises(Died, match="beyond the log's end"):
        await policy(SOURCE, 4, 0, 4)


async def test_all_partitions_are_searched_together_and_only_as_far_back_as_needed(logs: Logs) -> None:
    policy: Any = sequencer_start("b:1", INBOX, Mapper())
    logs.values[INBOX] = [b"facts:%d" % number for number in range(1_000)]
    other = TP("others", 0)
    places = {SOURCE: InputOffsets(1_100, 0, 1_200), TP("empty", 0): InputOffsets(None, 0, 0)}
    assert await policy.starts(places) == {SOURCE: 1_000, TP("empty", 0): 0}
    assert min(logs.read) == 800
    # The search for a source without a copy goes further back. Records that need no copy may be in between.
    assert (await policy.starts({**places, other: InputOffsets(150_000, 0, 200_000)}))[other] == 50_000
    assert min(logs.read) == 0
    # Copies that were trimmed from the inbox prove nothing, so the committed offset counts.
    logs.begins[INBOX] = 10
    assert (await policy.starts({other: InputOffsets(150_000, 0, 200_000)}))[other] == 150_000


class CallsByRecord(Calls):
    """Finds calls and results in single records, too. A decision is `ask:name@cause`."""

    def requested_calls(self, value: bytes) -> list[RequestedCall]:
        what, _, name = value.decode().partition(":")
        name, _, cause = name.partition("@")
        return [RequestedCall(name, int(cause))] if what == "ask" else []

    def answered_call(self, value: bytes) -> str | None:
        what, _, name = value.decode().partition(":")
        return name if what == "answer" else None


async def test_a_commit_beyond_calls_that_were_not_made_does_not_skip_them(
    logs: Logs, caplog: pytest.LogCaptureFixture
) -> None:
    policy: Any = effects_start("b:1", CallsByRecord(), INBOX)
    log = TP("log", 0)
    logs.values["log"] = [b"ask:a@0", b"nothing", b"ask:b@1", b"ask:a@3", b"\xff"[:0], b"ask:c@4"]
    logs.values[INBOX] = [b"x", b"answer:a", b"answer:b", b"x", b"x"]
    # The first call `a` has a result; the second one has none.
    assert await policy(log, 6, 0, 6) == 3
    (line,) = [one.getMessage() for one in caplog.records]
    assert "offset 6 was committed, but record 3 before it requests a call that was never made" in line
    assert await policy(log, 3, 0, 6) == 3
    logs.values[INBOX] += [b"answer:a", b"answer:c"]
    assert await policy(log, 6, 0, 6) == 6
    assert len(caplog.records) == 1
    assert await policy(log, 99, 0, 6) == 6
    assert caplog.records[-1].levelname == "CRITICAL"


async def test_the_search_for_calls_continues_while_calls_without_a_result_are_found(logs: Logs) -> None:
    policy: Any = effects_start("b:1", CallsByRecord(), INBOX)
    logs.values["log"] = [b"ask:%d@%d" % (n, n) for n in range(2_000)]
    logs.values[INBOX] = [b"x"] * 2_000 + [b"answer:%d" % n for n in range(700)]
    assert await policy(TP("log", 0), 1_900, 0, 2_000) == 700


async def test_effects_that_can_not_find_their_results_start_at_the_committed_offset() -> None:
    policy = effects_start("b:1", object(), INBOX)
    assert policy is at_committed
