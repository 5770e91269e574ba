"""The sequencer copies records, dead-letters and rejects undecodable ones, and quarantines at any other error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from eventlog.core.errors import Poisoned
from eventlog.core.inbox_mapper import DependencyUnavailable, RecordMapper
from eventlog.processors import sequencer
from eventlog.processors.base import Batch
from eventlog.processors.sequencer import Sequencer
from eventlog.producing.batch_output import RECORD_BYTES, Output
from eventlog.records.dead_letters import Undecodable
from eventlog.records.envelope import headers


class BracketMapper(RecordMapper):
    """Puts values in brackets. An empty value is undecodable, `unneeded` is not copied, `needy` has a dependency."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        return self

    async def load_dependency(self, missing: DependencyUnavailable) -> None:
        self.loaded += missing.args

    def map_record(self, record: Any) -> bytes | None:
        if record.value == b"needy" and not self.loaded:
            raise DependencyUnavailable("how")
        if not record.value:
            raise Undecodable("it is empty")
        if record.value == b"unneeded":
            return None
        return b"[" + bytes(record.value) + b"]"

    def reject(self, record: Any, error: str) -> bytes | None:
        return f"rejected: {error}".encode() if record.key == b"waits" else None


class Written(list[tuple[str, int, Any, bytes, dict[str, bytes]]]):
    """The records that were sent, in sequence; `output` replaces Output."""

    def output(self, producer: Any, topic: str, partition: int, *, raises: bool = False) -> Any:
        pending: list[Any] = []
        real = Output(producer, topic, partition, raises=raises)

        def append(key: Any, value: bytes, headers: Any) -> None:
            real._check_size(key, value, headers)
            pending.append((topic, partition, key, value, dict(headers)))

        async def send(*, full: bool = False) -> list[Any]:
            if full:
                return []
            self.extend(pending)
            pending.clear()
            return []

        return SimpleNamespace(append=append, send=send)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    made = Written()
    monkeypatch.setattr(sequencer, "Output", made.output)
    return made


class Bare(Sequencer):
    """The processor without its Faust app."""

    epoch = 1
    producer = None

    def __init__(self) -> None:
        self.group = "a.groups.sequencer"
        self._inbox: Any = SimpleNamespace(name="inbox")
        self._mapper = self.mapper = BracketMapper()
        self._keys = {}
        self._dead_letter = {"facts": "facts.groups.dlq"}
        self.dead_letters = {}
        self.on_copied = None
        self.committed = 0
        self.skipped_offsets: set[int] = set()
        self.app = SimpleNamespace(consumer=SimpleNamespace(committed_at_start=lambda tp: self.committed))

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        return record.offset in self.skipped_offsets


def fact(offset: int, value: bytes | None, key: bytes = b"k") -> Any:
    headers = [("ce_id", b"1")]
    return SimpleNamespace(offset=offset, key=key, value=value, headers=headers)


async def test_an_undecodable_record_is_dead_lettered_with_its_origin_counted_and_rejected_in_the_inbox(
    written: Written,
) -> None:
    bare = Bare()
    records = [fact(7, b"a"), fact(8, b"", b"waits"), fact(9, None, b"other"), fact(10, b"unneeded"), fact(11, b"b")]
    assert await bare.handle(Batch("facts", 2, records, 1)) == []
    copied = [(topic, partition, key, value) for topic, partition, key, value, _ in written]
    assert copied == [
        ("inbox", 2, b"k", b"[a]"),
        ("inbox", 2, b"waits", b"rejected: it is empty"),
        ("inbox", 2, b"k", b"[b]"),
        ("facts.groups.dlq", 2, b"waits", b""),
        ("facts.groups.dlq", 2, b"other", b""),
    ]
    assert written[3][4] == {
        "ce_id": b"1",
        "dlq-origin-topic": b"facts",
        "dlq-origin-partition": b"2",
        "dlq-origin-offset": b"8",
        "dlq-error": b"it is empty",
    }
    assert bare.dead_letters == {"facts": 2}


async def test_a_copy_lacks_the_headers_that_follow_from_its_source(written: Written) -> None:
    record = fact(7, b"a")
    record.headers = headers("1", "groupbuy.T", "/orders", 0, "s", {"traceparent": "00-1"})
    await Bare().handle(Batch("facts", 2, [record], 1))
    assert written == [("inbox", 2, b"k", b"[a]", {"ce_id": b"1", "ce_subject": b"s", "traceparent": b"00-1"})]


async def test_a_record_before_the_committed_offset_without_a_copy_is_copied_and_logged(
    written: Written, caplog: pytest.LogCaptureFixture
) -> None:
    bare = Bare()
    bare.committed = 10
    records = [fact(7, b"unneeded"), fact(8, b"", b"other"), fact(9, b"a"), fact(10, b"", b"other")]
    assert await bare.handle(Batch("facts", 2, records, 1)) == []
    # A record that was dead-lettered before is not dead-lettered again.
    assert [(topic, value) for topic, _, _, value, _ in written] == [("inbox", b"[a]"), ("facts.groups.dlq", b"")]
    (line,) = [one.getMessage() for one in caplog.records if one.levelname == "CRITICAL"]
    assert "facts-2: offset 10 was committed, but record 9 before it has no copy in the inbox" in line
    assert "acls check" in line


async def test_a_record_that_needs_no_copy_is_not_logged(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    bare = Bare()
    bare.committed = 10
    await bare.handle(Batch("facts", 2, [fact(7, b"unneeded"), fact(10, b"a")], 1))
    assert not [one for one in caplog.records if one.levelname == "CRITICAL"]


@pytest.mark.parametrize("headers", [[("h", b"x" * RECORD_BYTES)], []], ids=["headers", "value"])
async def test_a_record_that_is_too_large_for_the_inbox_is_rejected(written: Written, headers: Any) -> None:
    bare = Bare()
    large = fact(7, b"x" * (RECORD_BYTES if not headers else 1))
    large.headers = headers
    assert await bare.handle(Batch("facts", 2, [large, fact(8, b"a")], 1)) == []
    assert [topic for topic, *_ in written] == ["inbox", "facts.groups.dlq"]
    assert b"too large for the topic inbox" in written[1][4]["dlq-error"]


async def test_a_rejection_drops_headers_that_are_too_large_for_the_inbox(written: Written) -> None:
    large = fact(7, b"x", b"waits")
    large.headers = [("h", b"x" * RECORD_BYTES)]
    assert await Bare().handle(Batch("facts", 2, [large], 1)) == []
    topic, _, _, value, headers = written[0]
    assert (topic, headers) == ("inbox", {})
    assert value.startswith(b"rejected: with ")


async def test_a_record_is_copied_after_its_dependency_is_loaded(written: Written) -> None:
    bare = Bare()
    assert await bare.handle(Batch("facts", 2, [fact(7, b"needy"), fact(8, b"a")], 1)) == []
    assert [(topic, value) for topic, _, _, value, _ in written] == [("inbox", b"[needy]"), ("inbox", b"[a]")]
    assert bare.mapper.loaded == ["how"]


async def test_a_skip_suppresses_the_dead_letter_but_not_the_copy_of_a_valid_record(
    written: Written,
) -> None:
    bare = Bare()
    bare.skipped_offsets = {7, 8}
    assert await bare.handle(Batch("facts", 2, [fact(7, b"", b"waits"), fact(8, b"a")], 1)) == []
    assert [(topic, value) for topic, _, _, value, _ in written] == [("inbox", b"[a]")]


async def test_a_batch_without_copies_is_acknowledged(written: Written) -> None:
    assert await Bare().handle(Batch("facts", 2, [fact(7, b"unneeded")], 1)) == []
    assert written == []


async def test_a_batch_of_an_earlier_epoch_is_dropped(written: Written) -> None:
    assert await Bare().handle(Batch("facts", 2, [fact(7, b"a")], 0)) is None
    assert written == []


async def test_records_keep_their_order_while_a_dependency_is_loaded(written: Written) -> None:
    bare = Bare()
    assert await bare.handle(Batch("facts", 2, [fact(7, b"a"), fact(8, b"needy"), fact(9, b"b")], 1)) == []
    assert [value for _, _, _, value, _ in written] == [b"[a]", b"[needy]", b"[b]"]
    assert bare.mapper.loaded == ["how"]


async def test_nothing_is_written_if_the_partition_is_lost_while_a_dependency_is_loaded(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Bare()

    async def load_dependency(missing: DependencyUnavailable) -> None:
        bare.epoch += 1

    monkeypatch.setattr(bare.mapper, "load_dependency", load_dependency)
    assert await bare.handle(Batch("facts", 2, [fact(7, b"a"), fact(8, b"needy")], 1)) is None
    assert written == []


async def test_any_other_error_of_a_record_quarantines_its_partition_after_the_records_before_it_are_copied(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Bare()
    stopped: list[Poisoned] = []
    monkeypatch.setattr(bare, "quarantine", stopped.append)
    map_record = bare.mapper.map_record

    def failing(record: Any) -> bytes | None:
        if record.value == b"?":
            raise ValueError("planted")
        return map_record(record)

    monkeypatch.setattr(bare.mapper, "map_record", failing)
    assert await bare.handle(Batch("facts", 2, [fact(7, b"a"), fact(8, b"?"), fact(9, b"b")], 1)) == []
    assert [value for _, _, _, value, _ in written] == [b"[a]"]
    assert [(one.topic, one.partition, one.offset) for one in stopped] == [("facts", 2, 8)]
    # A dependency that can't be loaded is no fault of the record, so it does not quarantine.
    monkeypatch.setattr(bare.mapper, "load_dependency", RecordMapper.load_dependency.__get__(bare.mapper))
    with pytest.raises(DependencyUnavailable):
        await bare.handle(Batch("facts", 2, [fact(9, b"needy")], 1))
    assert len(stopped) == 1
